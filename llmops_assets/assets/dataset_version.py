"""dataset_version: pulls, checks and canonicalizes the revision's data, and checks the base model.

It reports problems with either before a training starts.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from llmops_assets.config.project import BaseModelHub
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.asset_events import DATA_DIFF
from llmops_assets.delivery.references import champion_now
from llmops_assets.delivery.review import compare_data
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import DatasetVersion
from llmops_assets.domain.review_markdown import data_lines
from llmops_assets.domain.verdict import Verdict, judge_checks
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import DatasetResult, DatasetSpec
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.base_model import base_model
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.metadata import checks_metadata, figure_of
from resources.artifact_store.store import StoreDenied, StoreError
from resources.project_source.errors import SourceError


def make(run: StageExecution) -> DatasetVersion:
    data = run.at.config.data
    names = {s: path for s in ("train", "validation", "test") if (path := getattr(data, s))}
    kept = run.at.config.evaluation.must_pass
    names |= {"must_pass": kept.file} if kept else {}
    base = run.at.config.model.base
    # One pull for all: each starts a DVC process, which takes 1.5 s before it does anything.
    tree = run.source.pull(run.at, [*names.values(), *(() if isinstance(base, BaseModelHub) else [base.path])])
    folder, _ = base_model(run)
    for split, path in names.items():
        if not (tree / path).is_file():
            key = "evaluation.must_pass.file" if split == "must_pass" else f"data.{split}"
            raise BadInput(f"{key} in llmops.yaml: {path} is not a file of rows (.jsonl or .parquet)")
    paths = {split: str(tree / path) for split, path in names.items()}
    spec = DatasetSpec(
        train=paths.get("train"),
        validation=paths.get("validation"),
        test=paths["test"],
        must_pass=paths.get("must_pass"),
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
        must_pass=result.must_pass,
        checks=result.checks,
        statistics=result.statistics,
    )


def describe(run: StageExecution, record: DatasetVersion) -> Mapping[str, Any]:
    return {
        "train_rows": record.train.rows,
        "validation_rows": record.validation.rows,
        "test_rows": record.test.rows,
        "versions": dg.MetadataValue.json(run.at.values["data"]),
        **{name: figure_of(value) for name, value in record.statistics.items() if not name.startswith("rows_")},
        **_against_champion(run, record),
        "uri": dg.MetadataValue.path(record.uri),
        **checks_metadata(record.checks),
    }


def _against_champion(run: StageExecution, record: DatasetVersion) -> dict[str, Any]:
    """The rows that differ from the champion's data. It is for people, so a version that is lost fails nothing."""
    try:
        champion = champion_now(run)
        found = compare_data(run, champion, record) if champion is not None else None
    except (StoreError, StoreDenied, SourceError, ConfigError, OSError, ValueError) as error:
        run.log.warning(f"the data is not compared with the champion's: {error}")
        return {}
    if champion is None or found is None:
        return {}
    counts = {
        f"{DATA_DIFF}_{split.split}_{what}": getattr(split, what)
        for split in found.splits
        for what in ("added", "removed", "changed")
    }
    told = f"Against release {short(champion.release)}: {found.text}.\n\n" + "\n".join(data_lines(found))
    return {**counts, DATA_DIFF: dg.MetadataValue.md(told)}


def verdict(run: StageExecution, record: DatasetVersion) -> Verdict:
    return judge_checks(f"the data of {short(run.revision)}", record.key, record.checks)


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "dataset_version",
        make,
        describe,
        kinds={"dvc"},
        judge=verdict,
    )
