"""The settings `images`: who builds the images of projects, where they are pushed, and what a build may use."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from llmops_assets import catalog
from llmops_assets.config.image import ArgumentName, ArgumentValue
from llmops_assets.config.part_names import NameOf
from llmops_assets.config.secrets import FromEnvironment, refuse_credentials
from llmops_assets.domain.models import Strict, WrongAt
from llmops_assets.domain.rollout import Duration


class ScanSettings(Strict):
    """The vulnerability scan (trivy) of every image."""

    database: Path | None = Field(
        default=None, description="Folder with trivy's database, as `trivy --cache-dir`; None: a folder under home."
    )
    update: bool = Field(
        default=True,
        description="Whether trivy may fetch a newer database. false: another job keeps `database` up to date.",
    )
    max_age: Duration = Field(
        default=7 * 86400.0, gt=0, description="An image is not scanned with a database older than this: 7d."
    )
    not_scanned: Literal["refuse", "accept"] = Field(
        default="refuse",
        description="What an image is worth that could not be scanned: scanner or database missing, database too old.",
    )


class ImageSettings(Strict):
    """Without these settings no image is built, whatever Dockerfiles there are."""

    builder: Annotated[str, NameOf(catalog.IMAGE_BUILDERS)] = Field(default="docker", description="What builds images.")
    host: str = Field(
        default="unix:///var/run/docker.sock",
        pattern=r"^(unix:///|tcp://|ssh://)[^\s]+$",
        description="The builder's address. Who reaches it is root on its machine: projects never do.",
    )
    client: str = Field(
        default="docker", min_length=1, description="The docker command: a name on the PATH, or a path."
    )
    registry: str = Field(
        pattern=r"^[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$",
        description="Where images are pushed, without scheme: registry.example.com/team. The project's name follows.",
    )
    username: str | None = Field(default=None, min_length=1, description="Of the registry, with `password`.")
    password: FromEnvironment | None = Field(
        default=None, description="{env: NAME}, the variable that holds password or token. Absent: as `docker_config`."
    )
    docker_config: Path | None = Field(
        default=None, description="Folder of a Docker config.json with logins; None: no logins but `username`."
    )
    network: Literal["none", "default", "host"] = Field(
        default="none", description="The network of RUN and ADD in builds. Base images are always fetched."
    )
    bases: tuple[Annotated[str, Field(min_length=1, max_length=300)], ...] = Field(
        default=(),
        description="Base images that a Dockerfile may name, with * as in registry.example.com/base/*; empty: any.",
    )
    args: dict[ArgumentName, ArgumentValue] = Field(
        default_factory=dict, description="Build arguments of every project, such as a package index. No secrets."
    )
    max_size: float = Field(
        default=20.0, gt=0, description="GiB of an image's unpacked layers; a larger one is refused."
    )
    max_disk: float = Field(
        default=60.0, gt=0, description="GiB by which the builder's disk may fill during a build; then it is ended."
    )
    run_code: bool = Field(
        default=True, description="Run a project's own metrics in its image, if it has one, at the same host."
    )
    scan: ScanSettings = Field(default=ScanSettings(), description="The vulnerability scan.")

    @field_validator("host", "registry")
    @classmethod
    def _holds_no_password(cls, value: str) -> str:
        refuse_credentials(value if "://" in value else f"https://{value}", "leave it out, and name it by `password`")
        return value

    @field_validator("args")
    @classmethod
    def _hold_no_password(cls, args: dict[str, str]) -> dict[str, str]:
        for value in args.values():
            refuse_credentials(value, "every image shows its arguments; leave it out")
        return args

    @model_validator(mode="after")
    def _login_is_whole(self) -> "ImageSettings":
        if (self.username is None) != (self.password is None):
            missing = "password" if self.password is None else "username"
            raise WrongAt("is missing: a login needs username and password; add it, or leave both out", missing)
        return self

    @property
    def identity(self) -> dict[str, object]:
        """What of it changes an image: part of the key. Where it is built and pushed is not."""
        found: dict[str, object] = {"builder": self.builder, "network": self.network}
        if self.args:
            found["args"] = dict(self.args)
        return found | catalog.versions(catalog.IMAGE_BUILDERS[self.builder])
