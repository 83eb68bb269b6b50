"""Builds a release from a revision's values and its quantized artifact."""

from collections.abc import Mapping
from typing import Any

from llmops_assets.domain.prompt import compose_chat_template
from llmops_assets.domain.records import QuantizedArtifact, Record, Release
from llmops_assets.domain.sampling import Sampling


def release_of(project: str, values: Mapping[str, Any], artifact: QuantizedArtifact) -> Release:
    """The release that a revision with these values deploys."""
    engine = values["engine"]
    return Release(
        project=project,
        artifact_digest=artifact.digest,
        artifact_uri=artifact.uri,
        file=artifact.file,
        chat_template=compose_chat_template(values["prompt"], artifact.chat_template),
        engine=engine["engine"],
        serving=engine["serving"],
        # With the defaults spelled out: a release says how it answers, whatever later versions default to.
        sampling=Sampling(**engine.get("sampling", {})).model_dump(mode="json", exclude_none=True),
    )


def release_from_records(project: str, values: Mapping[str, Any], records: Mapping[str, Record]) -> Release | None:
    """The release of a revision with these records (by stage); None while its quantized artifact is missing."""
    artifact = records.get("quantized_artifact")
    return release_of(project, values, artifact) if isinstance(artifact, QuantizedArtifact) else None
