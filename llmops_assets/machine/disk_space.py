"""Detects a full disk from errors, and builds the message. Imports nothing heavy: every program uses it."""

import errno
import shutil
from pathlib import Path

from llmops_assets.domain.formatting import size

WORDS = ("No space left on device", "Disk quota exceeded", "database or disk is full")
"""How safetensors, DVC, SQLite and others report a full disk in their own errors."""
NO_ROOM = 2**20
"""Bytes. torch.save fails with a message about file positions: then only the free space shows the cause."""


class DiskFull(Exception):
    """The disk is full; the message says which one and what to do."""


def says_full(text: str) -> bool:
    return any(words in text for words in WORDS)


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk caused an error, directly or through its causes."""
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


def full(what: str, folder: Path, then: str = ", then `llmops retry` resumes from completed work") -> str:
    """The message: what could not be written, where, and what to do."""
    while not folder.exists():
        folder = folder.parent
    space = shutil.disk_usage(folder)
    return (
        f"no space left for {what}: the disk of {folder} has {size(space.free)} free of {size(space.total)}. "
        f"Free space there{then}"
    )


def folder_named_by(error: BaseException | None, otherwise: Path) -> Path:
    """The folder that the error names, or `otherwise`."""
    while error is not None:
        if isinstance(error, OSError) and (named := error.filename2 or error.filename):
            return Path(str(named)).parent
        error = error.__cause__ or error.__context__
    return otherwise
