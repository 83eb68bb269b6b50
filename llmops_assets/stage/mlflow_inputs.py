"""What MLflow records of a run's inputs: where its code comes from, who wrote it, and the rows that it read."""

from collections.abc import Mapping
from typing import Any, Literal

from llmops_assets.domain.records import DatasetVersion, Split
from llmops_assets.stage.execution import StageExecution
from resources.tracking.mlflow import Origin, UsedDataset


def origin_of(run: StageExecution, revision: str) -> Origin:
    return Origin(repository=run.project.shown, branch=run.project.branch, author=run.source.git.author(revision))


def used_rows(
    run: StageExecution, data: DatasetVersion, split: Literal["train", "validation", "test"], context: str
) -> UsedDataset:
    """A split of the data; one without a file of its own is a share of the training rows."""
    named: Mapping[str, Any] = run.at.values["data"].get(split) or {}
    found: Split = getattr(data, split)
    return UsedDataset(
        name=str(named.get("path", f"{split} rows")),
        digest=found.digest,
        uri=f"{data.uri}/{split}.jsonl",
        rows=found.rows,
        context=context,
        version=str(named.get("version", "")),
    )
