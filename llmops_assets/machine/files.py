"""Files of this machine: listing a folder, and replacing a file atomically."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".part"
"""Suffix of a file that is being written. One that a killed process left may be deleted."""


def files_below(folder: Path) -> list[str]:
    """Paths of all files in a folder and the folders below it, relative to it, sorted."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@contextmanager
def replacing(path: Path, via: Path | None = None) -> Iterator[Path]:
    """A temporary path for a file's new content; it replaces the file when the block ends without an error.

    Of concurrent writers the last one wins. Each has its own temporary name, also threads of one process.

    Args:
        path: the file; its folder exists.
        via: folder of the temporary file, on the same file system, if `path`'s own is being watched.
    """
    part = (via or path.parent) / f"{path.name}.{uuid.uuid4().hex}{PARTIAL}"
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_if_changed(path: Path, text: str) -> None:
    """Replaces a file as a whole, unless it has this content: a sensor that changes nothing writes nothing."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def write_atomically(path: Path, text: str, via: Path | None = None) -> None:
    """Replaces a file as a whole, as UTF-8, also if the machine fails in the middle; its mode stays."""
    with replacing(path, via) as part:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            part.chmod(path.stat().st_mode)
