"""The settings' `code_host`: where a project's commits are answered. The token stays in the environment."""

import re
from importlib.util import find_spec
from typing import Annotated, Any, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from llmops_assets import catalog
from llmops_assets.config.part_names import NameOf
from llmops_assets.config.secrets import FromEnvironment, refuse_credentials
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.models import Strict, WrongAt

_REPOSITORY = r"^[\w.-]+(/[\w.-]+)+$"
_SSH = re.compile(r"^(?:[\w.-]+@)?(?P<host>[\w.-]+):(?P<path>[^/\s].*)$")


def _not_written(value: Any, what: str) -> Any:
    if isinstance(value, str):  # the usual message would show it
        raise ValueError(
            f"a {what} is not written here; put it into the environment and name the variable: {{env: NAME}}"
        )
    return value


class GitHubApp(Strict):
    """A GitHub App that answers, instead of a token: it may post check runs, and its tokens last an hour."""

    id: str = Field(
        pattern=r"^[A-Za-z0-9.]{1,40}$", description="The App's client id (Iv…), or its numeric id in quotes."
    )
    private_key: FromEnvironment = Field(
        description="The variable that holds its private key in PEM; a line break may be written as \\n."
    )
    installation: int | None = Field(
        default=None, ge=1, description="Id of the installation. None: that of the repository is looked up."
    )

    @field_validator("private_key", mode="before")
    @classmethod
    def _is_a_name(cls, value: Any) -> Any:
        return _not_written(value, "key")


class CodeHostSettings(Strict):
    """The code host that shows checks and comments about a project's commits."""

    via: Annotated[str, NameOf(catalog.CODE_HOSTS)] = Field(description="The code host's kind.")
    token: FromEnvironment | None = Field(
        default=None,
        description="The variable of a token that may do what docs/operating.md lists; the daemon needs it. Required, "
        "unless `app` is set.",
    )
    app: GitHubApp | None = Field(default=None, description="For via: github, an App instead of a token.")
    api: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#]+$",
        description="Base URL of the host's API, for example https://github.example.com/api/v3. None: derived from the "
        "project's `repository`, else that of github.com or gitlab.com.",
    )
    repository: str | None = Field(
        default=None,
        pattern=_REPOSITORY,
        description="owner/name on the host, on GitLab with all groups. None: derived from the project's `repository`.",
    )

    @field_validator("token", mode="before")
    @classmethod
    def _is_a_name(cls, value: Any) -> Any:
        return _not_written(value, "token")

    @model_validator(mode="after")
    def _reveals_nothing(self) -> Self:
        if self.app is not None and not catalog.CODE_HOSTS[self.via].apps:
            raise WrongAt(f"{self.via} has no Apps; set token: {{env: NAME}}", "app")
        if self.app is not None and self.token is not None:
            raise WrongAt("an App needs no token; leave one of them out", "token")
        if self.app is None and self.token is None:
            raise WrongAt(
                "is missing; add it, as {env: NAME}" + (", or `app`" if catalog.CODE_HOSTS[self.via].apps else ""),
                "token",
            )
        if self.app is not None and find_spec("jwt") is None:
            raise WrongAt("it needs PyJWT, which is not installed; pip install 'llmops-assets[github-app]'", "app")
        if self.api is not None:
            try:
                refuse_credentials(self.api, "leave it out; `token` names the variable that holds it")
            except ValueError as error:
                raise WrongAt(str(error), "api") from None
        if self.repository and any(part in (".", "..") for part in self.repository.split("/")):
            raise WrongAt("it must be owner/name", "repository")
        return self


class HostedRepository(NamedTuple):
    """One repository on one code host."""

    api: str
    repository: str


def repository_on_host(settings: CodeHostSettings, address: str) -> HostedRepository:
    """Where to answer.

    Args:
        address: of the project's Git repository. It may contain credentials, so no message shows it.

    Raises:
        ConfigError: the settings do not say it, and it cannot be derived.
    """
    part = catalog.CODE_HOSTS[settings.via]
    host, path = _host_and_path(address)
    api = settings.api or (part.api_of(host) if host else part.public)
    if not api:
        raise ConfigError(
            [f"code_host.api cannot be derived from the repository's address; add it, like {part.example}"]
        )
    repository = settings.repository or path
    if not repository or not re.match(_REPOSITORY, repository):
        raise ConfigError(["code_host.repository cannot be derived from the repository's address; add it: owner/name"])
    return HostedRepository(api.rstrip("/"), repository)


def _host_and_path(address: str) -> tuple[str, str]:
    """(host, owner/name) of a Git address; empty for a local path."""
    if "://" in address:
        try:
            url = urlsplit(address)
            host = url.hostname or ""
            if url.scheme in ("http", "https") and url.port:
                host += f":{url.port}"
            path = url.path if url.scheme != "file" else ""
        except ValueError:
            return "", ""
    elif (found := _SSH.match(address)) and not address.startswith(("/", ".", "~")):
        host, path = found["host"], found["path"]
    else:
        return "", ""
    return (host, path.strip("/").removesuffix(".git").strip("/")) if path else ("", "")
