"""A full disk: how errors show it, and what to say of it. Light: every program and every client may ask."""

import errno
import shutil
from pathlib import Path

WORDS = ("No space left on device", "Disk quota exceeded", "database or disk is full")
"""What safetensors, DVC, SQLite and others make of it, in errors of their own."""
NO_ROOM = 2**20
"""Bytes. torch.save fails with a text about positions in its file: then only the disk itself tells."""


class DiskFull(Exception):
    """There is no room for what must be written; the message says where, and what helps."""


def says_full(text: str) -> bool:
    return any(words in text for words in WORDS)


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error, or behind what caused it."""
    while error is not None:
        if isinstance(error, DiskFull) or says_full(str(error)):
            return True
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def has_no_room(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < NO_ROOM
    except OSError:
        return False


def full(what: str, folder: Path, then: str = ", then `llmops retry` goes on from what is complete") -> str:
    """What was full, where, and what to do about it."""
    while not folder.exists():
        folder = folder.parent
    space = shutil.disk_usage(folder)
    return (
        f"no space left for {what}: the disk of {folder} has {_size(space.free)} free of {_size(space.total)}. "
        f"Make room there{then}"
    )


def place_of(error: BaseException | None, otherwise: Path) -> Path:
    """Where it happened, as far as an error says so."""
    while error is not None:
        if isinstance(error, OSError) and (named := error.filename2 or error.filename):
            return Path(str(named)).parent
        error = error.__cause__ or error.__context__
    return otherwise


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
