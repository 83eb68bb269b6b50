"""fine_tuned_checkpoint: fine-tunes the base model (LoRA or full), or uses it unchanged.

The program `llmops_assets.programs.train` runs the training loop; this module builds its spec.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.gate_evidence import verdict_on
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Checkpoint, DatasetVersion
from llmops_assets.machine.disk_space import DiskFull
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import TrainResult, TrainSpec
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.base_model import base_model
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.metadata import figure_of
from llmops_assets.stage.mlflow_inputs import origin_of, used_rows
from resources.compute.interface import ProgramError


def make(run: StageExecution) -> Checkpoint:
    data = run.record(DatasetVersion, "dataset_version")
    training = run.at.config.training
    folder, base = base_model(run)
    base_artifact, kept = run.store_verified(folder)
    spec = TrainSpec(
        base=str(kept),
        data=str(run.fetch(data)),
        prompt=run.at.values["training.prompt"],
        checkpoint_every_s=run.settings.compute.checkpoint_every,
        lora=training.lora.model_dump(mode="json"),
        **training.model_dump(exclude={"lora", "prompt"}),
    )
    params = {
        "data_version": data.train.digest[:12],
        "base_model": base,
        **spec.model_dump(exclude={"base", "data", "prompt", "checkpoint_every_s"}),
    }
    # MLflow takes 3 to 6 s to open its first run, the program as long until its first step: do both in parallel.
    with ThreadPoolExecutor(1) as aside:
        opening = aside.submit(
            run.tracking.start,
            run.project.name,
            run.key,
            name=f"{short(run.revision)} {training.method}",
            revision=run.revision,
            dagster_run_id=run.run_id,
            params=params,
            artifacts=run.store.url,
            note=run.note,
            origin=origin_of(run, run.revision),
            datasets=[used_rows(run, data, "train", "training"), used_rows(run, data, "validation", "validation")],
        )

        def progress(line: dict[str, Any]) -> None:
            figures = {
                k: line[k] for k in ("loss", "tokens_per_s", "learning_rate") if isinstance(line.get(k), int | float)
            }
            if figures and "step" in line:
                run.tracking.log(opening.result(), figures, int(line["step"]))

        try:
            done = run.program("train", spec, on_progress=progress)
        except (BadInput, DiskFull, ProgramError):
            # The next generation reopens the same MLflow run.
            run.tracking.finish(opening.result(), "FAILED")
            raise
        mlflow_run = opening.result()
    result = done.read(TrainResult)
    artifact = run.store.put(done.artifact)
    if result.validation_loss is not None:
        run.tracking.log(mlflow_run, {"validation_loss": result.validation_loss}, result.steps)
    run.tracking.finish(mlflow_run)
    return Checkpoint(
        **run.header,
        method=training.method,
        uri=artifact.uri,
        digest=artifact.digest,
        base=base,
        base_uri=base_artifact.uri,
        base_digest=base_artifact.digest,
        mlflow_run_id=mlflow_run,
        **result.model_dump(exclude={"libraries"}),
    )


def describe(run: StageExecution, record: Checkpoint) -> Mapping[str, Any]:
    url = run.tracking.run_url(run.project.name, record.mlflow_run_id)
    found: dict[str, Any] = {
        "method": record.method,
        "base": record.base,
        "steps": record.steps,
        "tokens": record.tokens,
        "tokens_per_s": figure_of(record.tokens_per_s),
        "trained_parameters": record.trained_parameters,
        "resumed_from_step": record.resumed_from_step,
        "digest": record.digest,
        "uri": dg.MetadataValue.path(record.uri),
        "mlflow_run": dg.MetadataValue.url(url) if url else record.mlflow_run_id,
    }
    if record.precision:
        found["precision"] = record.precision
    if record.truncated_rows:
        found["truncated_rows"] = record.truncated_rows
    for name in ("train_loss", "validation_loss"):
        if (value := getattr(record, name)) is not None:
            found[name] = figure_of(value)
    return found


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project, settings, "fine_tuned_checkpoint", make, describe, kinds={"pytorch", "huggingface"}, require=verdict_on
    )
