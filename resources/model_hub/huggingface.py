"""Downloads base models from the Hugging Face hub, by commit. Safetensors only; never code or pickles."""

import os
from pathlib import Path

from llmops_assets.domain.weights import HUB_FILES
from resources.project_source.errors import SourceError


def download_base_model(home: Path, name: str, revision: str) -> Path:
    """The folder of `name` at a commit SHA; downloads it once.

    Raises:
        SourceError: the hub is unreachable, or has no such model.
    """
    folder = home / "hub" / name.replace("/", "--") / revision
    if (folder / ".complete").exists():
        return folder
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        snapshot_download(
            name,
            revision=revision,
            local_dir=folder,
            allow_patterns=list(HUB_FILES),
        )
    except (HfHubHTTPError, OSError) as error:
        raise SourceError(
            f"model.base: {name} at {revision} cannot be downloaded from the hub: {error}. Remedy: check name, commit "
            "and access (HF_TOKEN), or track the model with DVC and set model.base.path"
        ) from error
    (folder / ".complete").touch()
    return folder
