"""Shared by both endpoints: starts an engine for the release, with the released weights."""

from llmops_assets.domain.records import QuantizedArtifact, Release
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.stage.execution import StageExecution
from resources.serving.interface import ServingError


def deploy(run: StageExecution, environment: str, release: Release) -> None:
    """Starts a healthy engine for this release; sends it no traffic.

    Raises:
        BadInput: the engine does not start; the message has the end of its log.
    """
    artifact = run.record(QuantizedArtifact, "quantized_artifact")
    file = run.fetch(artifact) / release.file
    sha256 = run.store.sha256(artifact.uri, release.file)
    try:
        run.serving.deploy(run.project.name, environment, release, file, run.log.info, sha256)
    except ServingError as error:
        raise BadInput(str(error)) from error
