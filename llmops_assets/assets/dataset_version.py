"""dataset_version: the data at the revision, pulled, checked and made canonical; and the base model, looked at.

What is wrong with either is said here, before a training starts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from llmops_assets.assets.ci_report import checks_metadata
from llmops_assets.config.project import BaseModelHub
from llmops_assets.config.settings import ProjectSource, Settings
from llmops_assets.domain.gate import Verdict, judge_checks
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Checkpoint, DatasetVersion
from llmops_assets.programs.models.base_model_check import problem_of
from llmops_assets.programs.runtime.specs import DatasetResult, DatasetSpec
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import StageRun, figure_of
from resources.artifact_store.store import StoreError
from resources.compute.local import BadInput
from resources.model_hub.huggingface import download_base_model


def base_model(run: StageRun) -> tuple[Path, str]:
    """The base model's folder at this revision, and its version.

    Raises:
        BadInput: it is missing, a pickle, or of an architecture that the quantizer cannot convert.
    """
    base = run.at.config.model.base
    if isinstance(base, BaseModelHub):
        folder, name = download_base_model(run.settings.home, base.hub, base.revision), f"{base.hub}@{base.revision}"
    else:
        folder, name = (
            run.source.pull(run.at, [base.path]) / base.path,
            f"{base.path}@{run.at.values['model.base']['version']}",
        )
    if problem := problem_of(folder, run.settings.compute.llama_cpp):
        raise BadInput(f"model.base in llmops.yaml ({name}): {problem}")
    return folder, name


def base_of(run: StageRun, checkpoint: Checkpoint) -> Path:
    """The base model that a checkpoint stands on, verified; a damaged copy is replaced from where it came.

    Raises:
        StoreError: it is not this revision's base model, so it cannot be had again here.
    """
    try:
        return run.store.fetch(checkpoint.base_uri)
    except StoreError as error:
        run.log.warning(f"base model {checkpoint.base}: {error}; it is stored again")
        artifact, kept = run.keep(base_model(run)[0])
        if artifact.digest != checkpoint.base_digest:
            run.drop(checkpoint, f"the base model {checkpoint.base}, which it stands on, is lost")
            raise
        return kept


def make(run: StageRun) -> DatasetVersion:
    data = run.at.config.data
    names = {s: path for s in ("train", "validation", "test") if (path := getattr(data, s))}
    base = run.at.config.model.base
    # One pull for all: each is a process of DVC's, 1.5 s before it looks at anything.
    tree = run.source.pull(run.at, [*names.values(), *(() if isinstance(base, BaseModelHub) else [base.path])])
    folder, _ = base_model(run)
    for split, path in names.items():
        if not (tree / path).is_file():
            raise BadInput(f"data.{split} in llmops.yaml: {path} is not a file of rows (.jsonl or .parquet)")
    paths = {split: str(tree / path) for split, path in names.items()}
    spec = DatasetSpec(
        train=paths.get("train"),
        validation=paths.get("validation"),
        test=paths["test"],
        names=names,
        validation_share=data.validation_share,
        seed=data.seed,
        tokenizer=str(folder),
    )
    done = run.program("dataset", spec)
    result = done.read(DatasetResult)
    artifact = run.store.put(done.artifact)
    return DatasetVersion(
        **run.header,
        uri=artifact.uri,
        train=result.train,
        validation=result.validation,
        test=result.test,
        checks=result.checks,
        statistics=result.statistics,
    )


def describe(run: StageRun, record: DatasetVersion) -> Mapping[str, Any]:
    return {
        "train_rows": record.train.rows,
        "validation_rows": record.validation.rows,
        "test_rows": record.test.rows,
        "versions": dg.MetadataValue.json(run.at.values["data"]),
        **{name: figure_of(value) for name, value in record.statistics.items() if not name.startswith("rows_")},
        "uri": dg.MetadataValue.path(record.uri),
        **checks_metadata(record.checks),
    }


def verdict(run: StageRun, record: DatasetVersion) -> Verdict:
    return judge_checks(f"the data of {short(run.revision)}", record.key, record.checks)


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "dataset_version",
        make,
        describe,
        kinds={"dvc"},
        checks={"fit_for_training": verdict},
    )
