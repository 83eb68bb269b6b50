"""Traces an endpoint to its inputs: combines lineage edges and records. Pure; never uses "the latest"."""

from collections.abc import Mapping
from typing import Any

from llmops_assets.domain.formatting import on_date
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import Record, Release, ReleaseApproval

TRACED = {
    "data": "dataset_version",
    "checkpoint": "fine_tuned_checkpoint",
    "evaluation": "evaluation_report",
    "registered_model": "registered_model",
    "quantized_artifact": "quantized_artifact",
    "served_evaluation": "served_evaluation_report",
}
"""Key of a trace → the stage whose record has its facts."""
CONFIGURATION = ("model.base", "training", "evaluation", "quantization", "engine")
"""Resolved values that a trace shows as configuration."""


class ProvenanceError(Exception):
    """The records are inconsistent. The message names every mismatch and the remedy."""


class Edge(Frozen):
    """A lineage edge: this revision uses this record, computed for it or reused."""

    project: str
    revision: str
    stage: str
    key: str
    reused: bool


def check_chain(records: Mapping[str, Record]) -> None:
    """Validates that the records were made from each other.

    Raises:
        ProvenanceError: all mismatches, and what to do.
    """
    from llmops_assets.domain.records import named_outputs

    outputs = {name: value for r in records.values() for name, value in named_outputs(r).items()}
    wrong = [
        f"{stage} was made from {name} {value[:12]}, but the revision has {outputs[name][:12]}"
        for stage, record in records.items()
        for name, value in record.reads.items()
        if name in outputs and outputs[name] != value
    ]
    if wrong:
        raise ProvenanceError("; ".join(wrong) + ". Remedy: `llmops run` this revision again")


def trace(
    project: str,
    revision: str,
    values: Mapping[str, Any],
    records: Mapping[str, Record],
    edges: Mapping[str, Edge],
    release: Release | None,
    collected: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Everything behind one release, as plain data. Missing parts are None, never guessed.

    Args:
        collected: keys of results whose artifacts were deleted by garbage collection, and when.

    Raises:
        ProvenanceError: the records are inconsistent.
    """
    check_chain(records)
    gone = collected or {}

    def made(stage: str) -> dict[str, Any]:
        record = records.get(stage)
        if record is None:
            return {}
        edge = edges.get(stage)
        return {
            "key": record.key,
            "made_by_commit": record.made_by.revision,
            "run": record.made_by.run_id,
            "reused": bool(edge and edge.reused),
            **({"collected": on_date(gone[record.key])} if record.key in gone else {}),
        }

    result: dict[str, Any] = {"project": project, "commit": revision}
    for name, stage in TRACED.items():
        record = records.get(stage)
        result[name] = {**made(stage), **record.facts} if record is not None else None
        if name == "data":
            if record is not None:
                result[name]["versions"] = values.get("data")
            result["prompt"] = values.get("prompt")
            result["configuration"] = {name: values.get(name) for name in CONFIGURATION}
    result["release"] = release.digest if release else None
    approval = records.get("release_approval")
    of_this = isinstance(approval, ReleaseApproval) and (release is None or approval.release == release.digest)
    result["approval"] = approval.facts if approval is not None and of_this else None
    return result
