"""Provides the verified base model of a revision or a checkpoint."""

from pathlib import Path

from llmops_assets.config.project import BaseModelHub
from llmops_assets.domain.records import Checkpoint
from llmops_assets.programs.models.base_model_check import problem_of
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.stage.execution import StageExecution
from resources.artifact_store.store import StoreError
from resources.model_hub.huggingface import download_base_model


def base_model(run: StageExecution) -> tuple[Path, str]:
    """The base model's folder at this revision, and its version.

    Raises:
        BadInput: it is missing, contains pickles, or the project's quantization backend cannot convert it.
    """
    base = run.at.config.model.base
    if isinstance(base, BaseModelHub):
        folder, name = download_base_model(run.settings.home, base.hub, base.revision), f"{base.hub}@{base.revision}"
    else:
        folder, name = (
            run.source.pull(run.at, [base.path]) / base.path,
            f"{base.path}@{run.at.values['model.base']['version']}",
        )
    if problem := problem_of(folder, run.at.config.quantization.backend, run.settings.compute.llama_cpp):
        raise BadInput(f"model.base in llmops.yaml ({name}): {problem}")
    return folder, name


def base_of(run: StageExecution, checkpoint: Checkpoint) -> Path:
    """A checkpoint's base model, verified; a damaged copy is replaced from its source.

    Raises:
        StoreError: it is not this revision's base model, so it cannot be fetched again here.
    """
    try:
        return run.store.fetch(checkpoint.base_uri)
    except StoreError as error:
        run.log.warning(f"base model {checkpoint.base}: {error}; storing it again")
        artifact, kept = run.store_verified(base_model(run)[0])
        if artifact.digest != checkpoint.base_digest:
            run.drop(checkpoint, f"its base model {checkpoint.base} is lost")
            raise
        return kept
