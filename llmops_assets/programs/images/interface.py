"""The interface of what builds images. An implementation is one module here and one entry in the catalog."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from llmops_assets.programs.runtime.errors import Unavailable
from llmops_assets.programs.runtime.specs import BuilderSpec

Tell = Callable[[str], None]


class BuilderFault(Unavailable):
    """Builder or registry failed, and not the project: a retry may succeed."""


@dataclass(frozen=True)
class BuildRequest:
    """One build.

    Args:
        context: folder with what the build sees.
        dockerfile: in the context.
        name: the file's name in the project, for messages.
        target: the stage to build; None: the last.
        args: build arguments.
        labels: of the image.
        log: file for the builder's output.
    """

    context: Path
    dockerfile: Path
    name: str
    target: str | None
    args: Mapping[str, str]
    labels: Mapping[str, str]
    log: Path


@dataclass(frozen=True)
class Built:
    image_id: str
    """sha256:…, of its configuration."""
    size_bytes: int


class ImageBuilder(Protocol):
    """Made from its specification and a private folder for logins, which it deletes at `close`."""

    def __init__(self, spec: BuilderSpec, folder: Path): ...

    def build(self, request: BuildRequest, tell: Tell) -> Built:
        """Builds an image; nothing of the build is left running, however it ends.

        Raises:
            BadInput: the Dockerfile is at fault, or the build exceeds a limit; with file and line.
            BuilderFault: anything else.
        """

    def push(self, built: Built, name: str) -> str:
        """Pushes the image; returns the digest of its manifest, which was verified to be that of this image.

        Args:
            name: REGISTRY/NAME.

        Raises:
            BuilderFault: the registry does not take it, or returns another image.
        """

    def environment(self) -> dict[str, str]:
        """What other tools need to read the image from the builder."""

    def version(self) -> str: ...

    def close(self) -> None: ...
