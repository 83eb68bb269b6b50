"""The files that DVC writes, `.dvc` and dvc.lock: which of them tracks a path, and at which version."""

import posixpath
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmops_assets.config.documents import DVC_BYTES, DocumentError, parse_yaml, read_file, text_of
from llmops_assets.config.yaml_validation import ConfigError
from resources.project_source.dvc_folders import MD5


class Output(BaseModel):
    """A DVC pointer's entry for a file or folder. DVC writes more keys than are read here."""

    model_config = ConfigDict(frozen=True)

    path: str = ""
    md5: str | None = Field(default=None, pattern=MD5)
    hash: str | None = None

    @property
    def of_dvc_2(self) -> bool:
        """Whether DVC 2 wrote the pointer: DVC 3 keeps such bytes elsewhere in cache and remote."""
        return self.hash is None


class _Outputs(BaseModel):
    outs: list[Output] | None = None


class _DvcFile(_Outputs):
    stages: dict[str, _Outputs] | None = None


def tracked_by(path: str, read: Callable[[str], bytes | None]) -> Iterator[tuple[str, Output]]:
    """Every DVC file that tracks a path, and its entry: PATH.dvc, then dvc.lock, then a tracked parent folder.

    Args:
        path: within the project.
        read: returns a file's content by its path, None if it does not exist; raises DocumentError if it is too large.

    Raises:
        ConfigError: one of them is not a valid DVC file: it has merge markers, or was edited by hand.
    """
    pointer = f"{path}.dvc"
    yield from ((pointer, out) for out in _parse(pointer, read).outs or [] if _tracks(pointer, out, path))
    for stage in (_parse("dvc.lock", read).stages or {}).values():
        yield from (("dvc.lock", out) for out in stage.outs or [] if out.path == path)
    parts = path.split("/")
    for depth in range(len(parts) - 1, 0, -1):
        folder = "/".join(parts[:depth])
        pointer = f"{folder}.dvc"
        yield from ((pointer, out) for out in _parse(pointer, read).outs or [] if _tracks(pointer, out, folder))


def _tracks(pointer: str, out: Output, path: str) -> bool:
    """Whether an entry is of this path: a pointer may name another one, whose bytes are then at another place."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(pointer), out.path)) == path


def _parse(name: str, read: Callable[[str], bytes | None]) -> _DvcFile:
    try:
        data = read(name)
        return _parsed(data) if data is not None else _DvcFile()
    except DocumentError as error:
        # Merge markers are not YAML; an edit by hand can be YAML, but not a DVC file.
        what, _, why = error.problem.partition(": ")
        where = ", ".join([*([f"line {error.line}"] if error.line else []), *([why] if why else [])])
        raise ConfigError(
            [
                f"{name}: {what}; was a merge left unfinished? `dvc add` or `dvc repro` writes it again"
                + (f" ({where})" if where else "")
            ]
        ) from error


@lru_cache(maxsize=64)  # each tracked path looks into dvc.lock
def _parsed(data: bytes) -> _DvcFile:
    try:
        return _DvcFile.model_validate(parse_yaml(text_of(data))[1] or {})
    except ValidationError as error:
        raise DocumentError("not as DVC writes it") from error


def is_tracked(folder: Path, path: str) -> bool:
    """Whether DVC tracks a path of a folder on disk.

    Raises:
        ConfigError: as `tracked_by`.
    """

    def read(name: str) -> bytes | None:
        file = folder / name
        return read_file(file, DVC_BYTES) if file.is_file() else None

    return any(tracked_by(path, read))
