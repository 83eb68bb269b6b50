"""The interface of what builds images. An implementation is one module here and one entry in the catalog."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from llmops_assets.machine.isolation import Ended, Limits
from llmops_assets.programs.runtime.errors import Unavailable
from llmops_assets.programs.runtime.specs import BuilderSpec

Tell = Callable[[str], None]
INSIDE = PurePosixPath("/project")
"""Where a project's files are in a container of its image."""


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


@dataclass(frozen=True)
class RunRequest:
    """A command of a project, run in its image.

    Args:
        folder: copied to `INSIDE`; its subfolder `out` is the only place that the command can write to.
        command: words; the first is a program of the image.
        environment: its whole environment, besides that of the image.
        log: file for its output.
        given: its standard input.
    """

    folder: Path
    command: Sequence[str]
    environment: Mapping[str, str]
    limits: Limits
    log: Path
    given: bytes = b""


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

    def run(self, reference: str, request: RunRequest) -> Ended:
        """Runs a command in an image: no network, read-only, as the user nobody. Nothing of it is left running.

        Files in `out` of the folder are those that it wrote there.

        Raises:
            BuilderFault: the image cannot be had, or the host is not there.
        """

    def environment(self) -> dict[str, str]:
        """What other tools need to read the image from the builder."""

    def version(self) -> str: ...

    def close(self) -> None: ...
