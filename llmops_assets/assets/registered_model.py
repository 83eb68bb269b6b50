"""registered_model: one MLflow model version per checkpoint that passes its gates. Weights stay in the store."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from llmops_assets.config.settings import ProjectSource, Settings
from llmops_assets.delivery.gate_evidence import verdict_on
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Checkpoint, RegisteredModel
from llmops_assets.programs.models.config_files import read_model_config, read_tokenizer_config
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.base_model import base_of
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.model_card import FILE, card_of
from resources.model_registry.interface import CHECKPOINT_TAG
from resources.model_registry.mlflow import how_to_load, write_mlflow_model


def make(run: StageExecution) -> RegisteredModel:
    checkpoint = run.record(Checkpoint, "fine_tuned_checkpoint")
    base, weights = base_of(run, checkpoint), run.fetch(checkpoint)
    with tempfile.TemporaryDirectory(prefix="llmops-model-") as scratch:
        folder = Path(scratch) / "model"
        write_mlflow_model(
            folder,
            base=base,
            checkpoint=weights,
            method=checkpoint.method,
            architecture=read_model_config(base)["architectures"][0],
            tokenizer_class=_tokenizer_class(weights),
            run_id=checkpoint.mlflow_run_id,
            metadata={"checkpoint": checkpoint.digest, "base": checkpoint.base, "commit": run.revision},
        )
        (folder / FILE).write_text(card_of(run, checkpoint), encoding="utf-8")
        artifact = run.store.put(folder)
    name = run.project.name
    remote = () if run.store.is_local else (checkpoint.base_uri, checkpoint.uri)
    version = run.registry.register(
        name,
        artifact.uri,
        checkpoint.mlflow_run_id,
        {CHECKPOINT_TAG: checkpoint.digest, "llmops.commit": run.revision},
        f"{run.note}\n\n{how_to_load(name, base, weights, remote)}",
    )
    return RegisteredModel(
        **run.header,
        name=name,
        version=version,
        model_uri=f"models:/{name}/{version}",
        uri=artifact.uri,
        checkpoint_digest=checkpoint.digest,
    )


def _tokenizer_class(folder: Path) -> str:
    return str(read_tokenizer_config(folder).get("tokenizer_class", "PreTrainedTokenizerFast"))


def describe(run: StageExecution, record: RegisteredModel) -> Mapping[str, Any]:
    url = run.registry.model_url(record.name, record.version)
    return {
        "version": record.version,
        "model_uri": record.model_uri,
        "checkpoint": short(record.checkpoint_digest),
        **({"mlflow_model": dg.MetadataValue.url(url)} if url else {}),
    }


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(project, settings, "registered_model", make, describe, kinds={"mlflow"}, require=verdict_on)
