"""The section `image` of `llmops.yaml`: the project's container image, and which vulnerabilities it may have."""

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from llmops_assets.config.project_paths import ProjectPath
from llmops_assets.domain.formatting import quoted
from llmops_assets.domain.images import ImagePolicy, ImageScan
from llmops_assets.domain.models import Strict

DOCKERFILE = "Dockerfile"
_RESERVED = ("SOURCE_DATE_EPOCH", "DOCKER_")


def check_argument(name: str) -> str:
    """The name of a build argument.

    Raises:
        ValueError: the builder itself reads it. BUILDKIT_SYNTAX, for one, names an image that reads the Dockerfile.
    """
    if name.upper().startswith(("BUILDKIT_", *_RESERVED)):
        raise ValueError(f"{quoted(name)} is an argument of the builder itself; leave it out")
    return name


ArgumentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"), AfterValidator(check_argument)]
ArgumentValue = Annotated[str, Field(max_length=2000)]


class Image(Strict):
    """How the project's Dockerfile is built. Without a Dockerfile there is no image."""

    build: bool = Field(default=True, description="false: the Dockerfile is for something else, and is not built.")
    dockerfile: ProjectPath | None = Field(
        default=None, description="The Dockerfile. Absent: `Dockerfile` in the context, if there is one."
    )
    context: ProjectPath = Field(
        default=".", description="Folder whose files the build sees: those in Git that .dockerignore does not name."
    )
    target: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="The stage to build; absent: the last."
    )
    args: dict[ArgumentName, ArgumentValue] = Field(
        default_factory=dict, max_length=100, description="Build arguments (ARG). They are no place for secrets."
    )
    scan: ImageScan = Field(default=ImageScan(), description="Which known vulnerabilities fail.")

    @property
    def file(self) -> str:
        """The Dockerfile's path in the project."""
        return self.dockerfile or str(PurePosixPath(self.context) / DOCKERFILE)

    @property
    def policy(self) -> ImagePolicy:
        return ImagePolicy(build=self.build, scan=self.scan)
