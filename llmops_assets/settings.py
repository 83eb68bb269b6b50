"""What this code location is pointed at: projects, stores, compute, serving. Read once, when the location loads.

`LLMOPS_SETTINGS` names a YAML file; `LLMOPS_HOME` the folder that holds all state of the local profile. What a
project itself decides stands in its own `llmops.yaml` (`llmops_assets.project`), not here.
"""

import os
import sys
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, field_validator

from llmops_assets.domain.base import Strict
from llmops_assets.project import ConfigError, validate_yaml


def default_home() -> Path:
    """`LLMOPS_HOME`, or a folder in the user's data directory."""
    if home := os.environ.get("LLMOPS_HOME"):
        return Path(home).expanduser().resolve()
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/llmops"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "llmops"


Owner = Annotated[str, Field(pattern=r"^(team:[\w-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")]
"""As Dagster takes them: another one would keep the whole location from loading."""


class ProjectSource(Strict):
    """A watched project."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$", description="As in its llmops.yaml; prefixes its assets.")
    repository: str = Field(description="URL or local path of the Git repository.")
    branch: str = Field(default="main", description="The branch that is watched.")
    owners: tuple[Owner, ...] = Field(default=(), description="E-mail addresses or team:names, shown in Dagster.")

    @property
    def group(self) -> str:
        """The name as Dagster allows it in groups, pools and job names."""
        return self.name.replace("-", "_")


class ServingSettings(Strict):
    port: int = Field(default=8300, ge=1, le=65535, description="The gateway's port: every endpoint's stable address.")
    host: str = Field(default="127.0.0.1", description="Address that the gateway listens on.")
    drain: float = Field(default=30.0, ge=0, description="Seconds that a replaced engine may finish its streams.")


class ComputeSettings(Strict):
    threads: int | None = Field(default=None, ge=1, description="CPU threads of one program; None: all cores.")
    llama_cpp: str | None = Field(default=None, description="A llama.cpp checkout that converts further architectures.")
    checkpoint_every: float = Field(default=15.0, gt=0, description="Seconds between resumable training checkpoints.")
    ci_timeout: float = Field(default=900.0, gt=0, description="Seconds that a project's own tests may take.")


class Settings(Strict):
    projects: tuple[ProjectSource, ...] = Field(default=(), description="The watched projects.")
    profile: Literal["local"] = Field(default="local", description="Where work runs.")
    home: Path = Field(default_factory=default_home, description="State of the local profile; None: LLMOPS_HOME.")
    ledger: str | None = Field(default=None, description="SQLAlchemy URL; None: SQLite under home.")
    store: str | None = Field(default=None, description="fsspec URL of the artifact store; None: a folder under home.")
    mlflow: str | None = Field(default=None, description="MLflow tracking URI; None: SQLite under home.")
    mlflow_ui: str | None = Field(default=None, description="Address of MLflow's UI, for links.")
    dagster_ui: str | None = Field(default=None, description="Address of Dagster's UI, for links.")
    poll: int = Field(default=2, ge=1, description="Seconds between looks at Git and DVC.")
    serving: ServingSettings = Field(default=ServingSettings(), description="The gateway of all endpoints.")
    compute: ComputeSettings = Field(default=ComputeSettings(), description="What programs may use.")
    hint: str | None = Field(default=None, description="Shown when the location is empty.")

    @field_validator("projects")
    @classmethod
    def _names_differ(cls, projects: tuple[ProjectSource, ...]) -> tuple[ProjectSource, ...]:
        names = [p.name for p in projects]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two projects are called {', '.join(twice)}; names must differ")
        return projects

    @cached_property
    def ledger_url(self) -> str:
        return self.ledger or f"sqlite:///{self.home}/ledger.sqlite"

    @cached_property
    def store_url(self) -> str:
        return self.store or str(self.home / "store")

    @cached_property
    def mlflow_uri(self) -> str:
        return self.mlflow or f"sqlite:///{self.home}/mlflow.sqlite"

    def project(self, name: str | None) -> ProjectSource:
        """The project of that name, or the only one.

        Raises:
            ConfigError: there is none of that name, or no name was given and there are several.
        """
        known = ", ".join(p.name for p in self.projects) or "none"
        if name is None:
            if len(self.projects) == 1:
                return self.projects[0]
            raise ConfigError([f"say which project (known: {known})"])
        for project in self.projects:
            if project.name == name:
                return project
        raise ConfigError([f"there is no project {name!r} (known: {known}); projects are listed in LLMOPS_SETTINGS"])


def settings_file() -> Path:
    """What `LLMOPS_SETTINGS` names, else `settings.yaml` in the home folder. It need not exist."""
    named = os.environ.get("LLMOPS_SETTINGS")
    return Path(named).expanduser() if named else default_home() / "settings.yaml"


def load_settings() -> Settings:
    """The settings that `LLMOPS_SETTINGS` names, else `settings.yaml` in the home folder (`make demo` writes one),
    else none at all, with a hint.

    Raises:
        ConfigError: the file is missing or wrong; says file, line, key and remedy.
    """
    path = settings_file()
    if not path.is_file():
        if os.environ.get("LLMOPS_SETTINGS"):
            raise ConfigError([f"{path}: no such file; LLMOPS_SETTINGS must name a YAML file of settings"])
        return Settings(
            hint="No project is watched. `llmops init DIR --register` makes and adds one; `make demo` shows one."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    return _relative_to(path.resolve().parent, validate_yaml(Settings, text, str(path)))


def _relative_to(folder: Path, settings: Settings) -> Settings:
    """Relative paths in the file are relative to it: daemon, workers and command line each stand somewhere else."""
    projects = tuple(
        p.model_copy(update={"repository": str((folder / p.repository).resolve())})
        if p.repository.startswith(("./", "../"))
        else p
        for p in settings.projects
    )
    home = (folder / settings.home.expanduser()).resolve()
    return settings.model_copy(update={"projects": projects, "home": home})


def dump_settings(settings: Settings) -> str:
    """The settings as YAML, for a file that another process reads."""
    return yaml.safe_dump(settings.model_dump(mode="json", exclude_defaults=True) | {"home": str(settings.home)})
