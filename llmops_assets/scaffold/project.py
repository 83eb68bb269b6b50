"""Creates a runnable project: `llmops init`. Adds missing files, Git and DVC; never changes an existing file.

llmops.yaml is written after the files that it names. So if it exists, the project's other files are left to its owner;
and an interrupted `llmops init` can be repeated.
"""

import json
import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment
from pydantic import Field

from llmops_assets.config.json_schema import SCHEMA_FILE, as_text, project_schema
from llmops_assets.config.project import CONFIG_FILE, BaseModelPath, ProjectConfig, load_config
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.redaction import carries_credentials
from llmops_assets.domain.weights import OTHER_FORMATS, pickles_not_needed
from llmops_assets.machine.files import files_below, write_atomically
from llmops_assets.programs.models.base_model_check import problem_of
from resources.project_source.dvc_files import is_tracked
from resources.project_source.working_copy import WorkingCopy

NAME = r"[a-z][a-z0-9-]{0,62}"
TRAIN, TEST, BASE = "data/train.jsonl", "data/test.jsonl", "models/base"
VERBATIM = {
    "prompts/answer.jinja": "prompts/answer.jinja",
    "prompts/training.jinja": "prompts/training.jinja",
    "smoke_tests.yaml": "smoke_tests.yaml",
    "tests/test_project.py": "tests/test_project.py",
    ".gitignore": "gitignore",
}
"""Path in a project → template."""
UNITS = (
    *(("kilograms", "grams", 1000), ("kilometres", "metres", 1000), ("metres", "centimetres", 100)),
    *(("litres", "millilitres", 1000), ("hours", "minutes", 60), ("minutes", "seconds", 60), ("days", "hours", 24)),
    *(("weeks", "days", 7), ("years", "months", 12), ("dozens", "pieces", 12)),
)
COUNTS = range(2, 20)
HELD_OUT = 6
"""Every sixth fact is a test row: 18 counts of ten units give 150 training rows and 30 test rows."""
NOT_NEEDED = shutil.ignore_patterns(".*", "onnx", *(f"*{suffix}" for suffix in OTHER_FORMATS))
"""Files of hub folders that are not copied: the same weights in other formats, and the hub's own metadata."""

_ORIGIN_WITH_CREDENTIALS = (
    "the URL of its remote origin, which is to be watched, contains a password or token. Remedy: `git remote set-url "
    "origin URL` without it, and let Git's credential helper supply it (`git help credentials`), or use a deploy key "
    "(git@host:path)"
)


class Scaffolded(Frozen):
    """The result of `llmops init`."""

    name: str
    folder: Path
    made: tuple[str, ...] = ()
    kept: tuple[str, ...] = Field(default=(), description="Existing files, unchanged.")
    did: tuple[str, ...] = Field(default=(), description="What was done with Git, DVC and the base model, as text.")
    to_add: tuple[str, ...] = Field(default=(), description="Arguments for `git add`; empty: everything is committed.")
    repository: str
    branch: str
    within: str | None = Field(description="The folder within the repository; None: its root.")
    pushes: bool = Field(description="Whether commits must be pushed to reach the watched repository.")


def init(folder: Path, name: str | None = None, base: Path | None = None, converter: str | None = None) -> Scaffolded:
    """Adds to a folder what it needs to be a project: the root of a repository, or a folder of one.

    Args:
        name: the project's name; None: from llmops.yaml, or the folder's name.
        base: a model folder to copy; None: it is added later.
        converter: as in `base_model_check.problem_of`.

    Raises:
        ConfigError: the folder, the name or the base model is unusable.
        SourceError: Git or DVC failed.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError([f"{folder} is a file; name a folder, which may be new"])
    copy = WorkingCopy(folder)
    folder = copy.folder
    if copy.root.exists() and carries_credentials(copy.origin or ""):
        raise ConfigError([f"{folder}: {_ORIGIN_WITH_CREDENTIALS}"])
    if base is not None:
        _check_base(base, converter)
    config, name = _existing(folder, name)
    made: list[str] = []
    kept: list[str] = []
    did: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in _contents(folder, name) if config is None else ():
            (made if _write_new(folder / path, text) else kept).append(path)
        config = config or load_config(folder / CONFIG_FILE)
        if CONFIG_FILE not in made:
            kept = [CONFIG_FILE]
        if done := copy.ensure_git():
            did.append(done)
        did += copy.ensure_dvc()
        did += _place_base(folder, config, base)
    except OSError as error:
        raise ConfigError(
            [f"{folder}: {error.strerror or error}: {error.filename}; fix this and run it again"]
        ) from error
    if tracked := copy.untracked(_data_paths(config)):
        copy.track(tracked)
        did.append(f"DVC: tracks {', '.join(tracked)}")
    new = copy.new_files()
    wanted = [p for p in _belonging(config) if p in new]
    if copy.configured and copy.configured not in wanted:
        wanted.append(copy.configured)  # a commit without it names no remote
    return Scaffolded(
        name=name,
        folder=folder,
        made=tuple(made),
        kept=tuple(kept),
        did=tuple(did),
        to_add=tuple(copy.shortest(wanted)) if wanted else (),
        repository=copy.origin or str(copy.root),
        branch=copy.branch,
        within=copy.within,
        pushes=copy.origin is not None,
    )


def _existing(folder: Path, name: str | None) -> tuple[ProjectConfig | None, str]:
    """The existing configuration, if any, and the project's name."""
    file = folder / CONFIG_FILE
    if file.exists():
        config = load_config(file)
        if name not in (None, config.name):
            raise ConfigError([f"{file}: name: is {config.name!r}, not {name!r}; edit the file, or omit --name"])
        return config, config.name
    found = name or re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")
    if not re.fullmatch(NAME, found):
        raise ConfigError(
            [f"{found!r} is no project name (lower-case letters, digits, dashes; a letter first); use --name NAME"]
        )
    return None, found


def _contents(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    templates = files("llmops_assets.scaffold").joinpath("templates/project")
    for path, template in VERBATIM.items():
        yield path, templates.joinpath(template).read_text(encoding="utf-8")
    train, test = facts()
    # Next to existing rows of another task, the starter rows would be wrong.
    theirs = [p for p, text in ((TRAIN, train), (TEST, test)) if _is_of_others(folder, p, text)]
    yield from ((p, t) for p, t in ((TRAIN, train), (TEST, test)) if not theirs or p in theirs)
    yield SCHEMA_FILE, as_text(project_schema())
    text = templates.joinpath("llmops.yaml.jinja").read_text(encoding="utf-8")
    yield CONFIG_FILE, Environment(keep_trailing_newline=True, autoescape=False).from_string(text).render(name=name)


def _is_of_others(folder: Path, path: str, text: str) -> bool:
    file = folder / path
    if not file.exists():
        return is_tracked(folder, path)
    return file.stat().st_size != len(text.encode()) or file.read_bytes() != text.encode()


def facts() -> tuple[str, str]:
    """Training and test rows of the starter task: unit conversions."""
    rows: tuple[list[str], list[str]] = ([], [])
    number = 0
    for large, small, factor in UNITS:
        for count in COUNTS:
            row = {"input": f"How many {small} are {count} {large}?"}
            row["output"] = f"{count} {large} are {count * factor} {small}."
            rows[number % HELD_OUT == HELD_OUT - 1].append(json.dumps(row) + "\n")
            number += 1
    return "".join(rows[0]), "".join(rows[1])


def _write_new(file: Path, text: str) -> bool:
    """Writes a file unless it exists; returns whether it was written."""
    if file.exists() or file.is_symlink():
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text)
    return True


def _check_base(base: Path, converter: str | None) -> None:
    if not base.is_dir():
        raise ConfigError([f"--base {base}: no such folder; it must contain config.json, safetensors and a tokenizer"])
    if problem := problem_of(base, converter=converter, without=pickles_not_needed(files_below(base))):
        raise ConfigError([f"--base {base}: {problem}"])


def _place_base(folder: Path, config: ProjectConfig, base: Path | None) -> list[str]:
    if not isinstance(config.model.base, BaseModelPath):
        return [f"--base {base} was not copied: llmops.yaml uses {config.model.base.hub} from the hub"] if base else []
    target = folder / config.model.base.path
    if base is None or base.resolve() == target.resolve():
        if not target.exists() and not is_tracked(folder, config.model.base.path):
            target.mkdir(parents=True)
            _write_new(target.parent / ".gitignore", f"/{target.name}\n")  # weights never go into Git
        return []
    if target.is_dir() and any(target.iterdir()):
        return [f"{config.model.base.path} already exists, unchanged; delete it to copy {base}"]
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(base, part, ignore=NOT_NEEDED)
    left_out = pickles_not_needed(files_below(part))
    for name in left_out:
        (part / name).unlink()
    if target.is_dir():
        target.rmdir()
    part.replace(target)
    without = f", without {', '.join(left_out)}: pickles are never loaded" if left_out else ""
    return [f"base model: copied from {base} to {config.model.base.path}{without}"]


def _data_paths(config: ProjectConfig) -> list[str]:
    data = config.data
    base = [config.model.base.path] if isinstance(config.model.base, BaseModelPath) else []
    return [p for p in (data.train, data.validation, data.test, *base) if p]


def _belonging(config: ProjectConfig) -> list[str]:
    """All files of a project that `llmops init` may create."""
    pointers = [f"{p}.dvc" for p in _data_paths(config)]
    ignores = [str(Path(p).parent / ".gitignore") for p in _data_paths(config)]
    own = [CONFIG_FILE, SCHEMA_FILE, *VERBATIM, ".dvc/config", ".dvc/.gitignore", ".dvcignore"]
    return list(dict.fromkeys([*own, *pointers, *ignores]))
