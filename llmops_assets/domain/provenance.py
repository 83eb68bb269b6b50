"""Traces an endpoint to its inputs: combines lineage edges and records. Pure; never uses "the latest"."""

from collections.abc import Mapping
from typing import Any

from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import (
    Checkpoint,
    DatasetVersion,
    EvaluationReport,
    QuantizedArtifact,
    Record,
    RegisteredModel,
    Release,
    ReleaseApproval,
    ServedEvaluationReport,
)


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
) -> dict[str, Any]:
    """Everything behind one release, as plain data. Missing parts are None, never guessed.

    Raises:
        ProvenanceError: the records are inconsistent.
    """
    check_chain(records)

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
        }

    data = records.get("dataset_version")
    checkpoint = records.get("fine_tuned_checkpoint")
    report = records.get("evaluation_report")
    served = records.get("served_evaluation_report")
    model = records.get("registered_model")
    artifact = records.get("quantized_artifact")
    approval = records.get("release_approval")
    result: dict[str, Any] = {"project": project, "commit": revision}
    result["data"] = (
        {
            **made("dataset_version"),
            "versions": values.get("data"),
            "rows": {n: getattr(data, n).rows for n in ("train", "validation", "test")},
        }
        if isinstance(data, DatasetVersion)
        else None
    )
    result["prompt"] = values.get("prompt")
    result["configuration"] = {
        k: values.get(k) for k in ("model.base", "training", "evaluation", "quantization", "engine")
    }
    result["checkpoint"] = (
        {**made("fine_tuned_checkpoint"), "digest": checkpoint.digest, "uri": checkpoint.uri, "base": checkpoint.base}
        if isinstance(checkpoint, Checkpoint)
        else None
    )
    result["evaluation"] = (
        {**made("evaluation_report"), "report": report.uri, "metrics": {m.name: m.value for m in report.metrics}}
        if isinstance(report, EvaluationReport)
        else None
    )
    result["registered_model"] = (
        {**made("registered_model"), "name": model.name, "version": model.version, "uri": model.model_uri}
        if isinstance(model, RegisteredModel)
        else None
    )
    result["quantized_artifact"] = (
        {**made("quantized_artifact"), "digest": artifact.digest, "uri": artifact.uri, "scheme": artifact.scheme}
        if isinstance(artifact, QuantizedArtifact)
        else None
    )
    result["served_evaluation"] = (
        {**made("served_evaluation_report"), "report": served.uri, "metrics": {m.name: m.value for m in served.metrics}}
        if isinstance(served, ServedEvaluationReport)
        else None
    )
    result["release"] = release.digest if release else None
    result["approval"] = (
        {"decision": approval.decision, "by": approval.by, "reason": approval.reason, "replaces": approval.replaces}
        if isinstance(approval, ReleaseApproval) and (release is None or approval.release == release.digest)
        else None
    )
    return result
