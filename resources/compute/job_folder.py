"""Reads what a program has left in the folder of its job."""

from pathlib import Path
from typing import Any

import psutil

from llmops_assets.config.documents import DocumentError, read_object
from resources.compute.interface import ProgramError

MOST_WRITTEN = 64 * 2**20
"""Bytes of a program's result.json, which holds its checks' output."""


def written(file: Path) -> dict[str, Any]:
    """The JSON object that a program has written.

    Raises:
        ProgramError: it is none; a project's own program can write anything.
    """
    try:
        return read_object(file, MOST_WRITTEN)
    except DocumentError as error:
        raise ProgramError(f"{file} is not what a program writes: {error}") from error


def process_of(folder: Path) -> psutil.Process | None:
    try:
        return psutil.Process(int((folder / "pid").read_text()))
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None


def tail_of(path: Path, lines: int = 25) -> str:
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
