"""Builds a release from a revision's values and its quantized artifact."""

from collections.abc import Mapping
from typing import Any

from llmops_assets.domain.prompt import compose_chat_template
from llmops_assets.domain.records import QuantizedArtifact, Release


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
    )
