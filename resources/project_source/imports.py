"""The imports of a project: `.dvc` files that `dvc import` and `dvc import-url` wrote, and where their data is from.

They are read strictly. DVC follows many keys that reach beyond the project: options of file systems and remotes,
databases, working folders, files outside of the repository. A file with any of those is skipped with a reason.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmops_assets.config.documents import DVC_BYTES, DocumentError, parse_yaml, text_of
from llmops_assets.domain.formatting import quoted
from resources.project_source.git_mirror import GitMirror

MOST_IMPORTS = 100
"""Imports of one project that are looked at."""


class _Known(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Repo(_Known):
    url: str
    rev: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][\w./+-]{0,200}$")
    rev_lock: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")


class _Version(_Known):
    """How DVC notes which version of a file or folder it has seen."""

    path: str
    hash: str | None = None
    md5: str | None = None
    etag: str | None = None
    checksum: str | None = None
    version_id: str | None = None
    size: int | None = None
    nfiles: int | None = None
    isexec: bool | None = None


class _From(_Version):
    repo: _Repo | None = None


class _File(_Known):
    md5: str | None = None
    frozen: bool = False
    desc: str | None = None
    meta: Any = None
    deps: tuple[_From, ...] = Field(min_length=1, max_length=1)
    outs: tuple[_Version, ...] = Field(min_length=1, max_length=1)


@dataclass(frozen=True)
class Import:
    """One imported file or folder."""

    file: str
    """The .dvc file, within the project."""
    out: str
    """Where the data is, within the project."""
    source: str
    """The URL or path of the data, or its path in the repository `repo`."""
    repo: str | None
    """The Git repository that it is from; None: it is from a URL or path."""
    rev: str | None
    """The branch or tag of that repository; None: its default branch."""
    locked: str | None
    """The commit of that repository that the project has."""
    document: dict[str, Any]

    @property
    def address(self) -> str:
        return self.repo or self.source

    @property
    def version(self) -> dict[str, Any]:
        """The version that the project has, as DVC notes it."""
        if self.repo is not None:
            return {"rev_lock": self.locked}
        return {key: value for key, value in self.document["deps"][0].items() if key != "path"}


def imports_of(git: GitMirror, revision: str) -> Iterator[Import | str]:
    """The imports of a project at a revision, or why a `.dvc` file is not looked at."""
    files = sorted(path for path in git.files(revision) if path.endswith(".dvc"))
    found = 0
    for path in files:
        try:
            data = git.read(revision, path, DVC_BYTES)
            document = parse_yaml(text_of(data))[1] if data is not None else None
        except DocumentError as error:
            yield f"{path}: {error}"
            continue
        if not isinstance(document, dict) or not document.get("deps"):
            continue  # data of the project's own
        found += 1
        if found > MOST_IMPORTS:
            yield f"{path}: not looked at, for the project has more than {MOST_IMPORTS} imports"
            return
        yield _import(path, document)


def _import(path: str, document: dict[str, Any]) -> Import | str:
    try:
        read = _File.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = "the bot does not follow this key" if first["type"] == "extra_forbidden" else first["msg"]
        return f"{path}: {key}: {said}; update it by hand: `dvc update {path}`"
    [dep], [out] = read.deps, read.outs
    place = posixpath.normpath(posixpath.join(posixpath.dirname(path), out.path))
    if out.path.startswith("/") or place.startswith("../") or "://" in out.path or place in (".", ".."):
        return f"{path}: outs.0.path: {quoted(out.path)} is outside of the project; the bot writes only within it"
    if any(part in (".git", ".dvc") for part in place.split("/")):
        return f"{path}: outs.0.path: {quoted(out.path)} is Git's or DVC's own"
    if dep.repo is not None:
        source = posixpath.normpath(dep.path)
        if source.startswith(("/", "../")) or source == "..":
            return f"{path}: deps.0.path: {quoted(dep.path)} is outside of the repository {dep.repo.url}"
        return Import(path, place, source, dep.repo.url, dep.repo.rev, dep.repo.rev_lock, document)
    return Import(path, place, dep.path, None, None, None, document)


def written(document: dict[str, Any]) -> bytes:
    """The text of a `.dvc` file, with keys in DVC's order."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()
