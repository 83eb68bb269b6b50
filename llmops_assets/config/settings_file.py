"""Reads and writes the file of settings, which `LLMOPS_SETTINGS` names."""

import os
from pathlib import Path

import yaml

from llmops_assets.config.documents import CONFIG_BYTES, DocumentError, read_text
from llmops_assets.config.secrets import read_address
from llmops_assets.config.settings import Settings, default_home
from llmops_assets.config.yaml_validation import ConfigError, validate_yaml


def settings_file() -> Path:
    """The file that `LLMOPS_SETTINGS` names, else `settings.yaml` in the home folder. It may not exist."""
    named = os.environ.get("LLMOPS_SETTINGS")
    return Path(named).expanduser() if named else default_home() / "settings.yaml"


def load_settings() -> Settings:
    """The settings that `LLMOPS_SETTINGS` names, else `settings.yaml` in the home folder (`make demo` writes one),
    else none at all, with a hint.

    Raises:
        ConfigError: the file is missing or invalid, or a variable that it names is not set; names file, line, key and
            remedy.
    """
    path = settings_file()
    if not path.is_file():
        if os.environ.get("LLMOPS_SETTINGS"):
            raise ConfigError([f"{path}: no such file; LLMOPS_SETTINGS must name a YAML file of settings"])
        return Settings(
            hint="No project is watched. Set LLMOPS_SETTINGS to a file that lists them; "
            "`llmops init DIR --register` makes and adds one; `make demo` shows one."
        )
    try:
        written = validate_yaml(Settings, read_text(path, CONFIG_BYTES), str(path))
        settings = _relative_to(path.resolve().parent, written)
    except DocumentError as error:
        raise ConfigError([f"{path}: cannot be read: {str(error).removeprefix('cannot be read: ')}"]) from error
    except RuntimeError as error:  # ~name/ of a user who does not exist
        raise ConfigError([f"{path}: home: {error}; write the whole path"]) from error
    for value in (settings.ledger, settings.mlflow, *(project.repository for project in settings.projects)):
        read_address(value)
    return settings


def _relative_to(folder: Path, settings: Settings) -> Settings:
    """Relative paths in the file are relative to it: daemon, workers and command line have different folders."""
    projects = tuple(
        p.model_copy(update={"repository": str((folder / p.repository).resolve())})
        if isinstance(p.repository, str) and p.repository.startswith(("./", "../"))
        else p
        for p in settings.projects
    )
    home = (folder / settings.home.expanduser()).resolve()
    return settings.model_copy(update={"projects": projects, "home": home})


def dump_settings(settings: Settings) -> str:
    """The settings as YAML, for a file that another process reads."""
    return yaml.safe_dump(settings.model_dump(mode="json", exclude_defaults=True) | {"home": str(settings.home)})
