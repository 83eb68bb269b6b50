"""Adds a project to the settings file: inserts one line and keeps everything else byte for byte.

A YAML library would rewrite the whole file and lose its layout. So the line is inserted as text, and the result is kept
only if it parses to the old content plus the new project.
"""

from pathlib import Path
from typing import Any

import yaml

from llmops_assets.config.documents import CONFIG_BYTES, DocumentError, parse_yaml, read_text
from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import load_settings, settings_file
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError, at, validate_yaml
from llmops_assets.machine.files import write_atomically
from llmops_assets.machine.locks import alone


def line_for(name: str, repository: str, branch: str, folder: str | None = None) -> str:
    """The item of `projects` in the settings."""
    value = {"name": name, "repository": repository, "branch": branch, **({"folder": folder} if folder else {})}
    return (
        "- " + yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True).strip()
    )


def register(name: str, repository: str, branch: str, folder: str | None = None, port: int | None = None) -> str:
    """Adds the project to the settings file, creating it if necessary; returns what was done, as text.

    Args:
        folder: of the project within its repository.
        port: of the gateway, for a file that is created; None: the default.

    Raises:
        ConfigError: the file is invalid, has another project of that name, or cannot be written; it is then unchanged.
    """
    file = settings_file()
    item = line_for(name, repository, branch, folder)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file = file.resolve()  # write the target of a link, not the link
        with alone(file.with_name(f".{file.name}.lock")):
            text = read_text(file, CONFIG_BYTES) if file.exists() else ""
            before = validate_yaml(Settings, text, str(file)) if parse_yaml(text)[1] else Settings()
            if same := next((p for p in before.projects if p.name == name), None):
                if _is(same, repository, branch, folder, file):
                    return f"{file} already lists {name}"
                it = f"{same.shown}, branch {same.branch}" + (f", folder {same.folder}" if same.folder else "")
                raise ConfigError([f"{file}: another project has the name {name} ({it}); choose another --name"])
            chosen = f"serving: {{port: {port}}}\n" if port is not None and not text.strip() else ""
            write_atomically(file, _added(chosen + text, item, file))
    except DocumentError as error:
        raise ConfigError([f"{at(str(file), error)}; correct it, or add this to its `projects`: {item}"]) from error
    except OSError as error:
        raise ConfigError([f"{file}: {error}; add this to its `projects` manually: {item}"]) from error
    return f"added to {file}: {item}" + (f", and {chosen.strip()}" if chosen else "")


def is_registered(name: str, repository: str, branch: str, folder: str | None = None) -> bool:
    """Whether the settings list exactly this project; False too if they cannot be read."""
    try:
        projects = load_settings().projects
    except ConfigError:
        return False
    return any(p.name == name and _is(p, repository, branch, folder, settings_file()) for p in projects)


def _is(project: ProjectSource, repository: str, branch: str, folder: str | None, file: Path) -> bool:
    named = project.repository
    relative = isinstance(named, str) and named.startswith(("./", "../"))
    there = str((file.parent / str(named)).resolve()) if relative else named
    return (there, project.branch, project.folder) == (repository, branch, folder)


def _added(text: str, item: str, file: Path) -> str:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    where = next((v for k, v in node.value if k.value == "projects"), None) if node is not None else None
    if where is None:
        gap = "" if not text or text.endswith("\n") else "\n"
        new = f"{text}{gap}projects:\n  {item}\n"
    elif isinstance(where, yaml.SequenceNode) and where.flow_style:
        at = where.end_mark.index - 1
        lead = text[where.start_mark.index + 1 : at].rstrip()
        comma = "" if not where.value or lead.endswith(",") else ", "
        new = text[:at] + comma + item.removeprefix("- ") + text[at:]
    else:
        new = _after_line(text, _end(where), " " * where.start_mark.column + item)
    if not _says_the_same_and(text, new, item):
        raise ConfigError([f"{file}: its layout cannot be edited safely; add this to `projects` manually: {item}"])
    return new


def _end(node: yaml.Node) -> int:
    """The index of a node's last character: a block collection's end mark is after the comments that follow it."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _end(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _end(node.value[-1])
    return max(int(node.start_mark.index), int(node.end_mark.index) - 1)


def _after_line(text: str, index: int, line: str) -> str:
    end = text.find("\n", index)
    return f"{text}\n{line}\n" if end < 0 else f"{text[: end + 1]}{line}\n{text[end + 1 :]}"


def _says_the_same_and(old: str, new: str, item: str) -> bool:
    before: dict[str, Any] = yaml.safe_load(old) or {}
    try:
        after = yaml.safe_load(new)
    except yaml.YAMLError:
        return False
    return bool(after == before | {"projects": [*(before.get("projects") or []), *yaml.safe_load(item)]})
