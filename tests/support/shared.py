"""Folders that are made once per session: the first test process makes one, the others wait for it."""

from collections.abc import Callable
from pathlib import Path

from llmops_assets.machine.locks import alone


def once(folder: Path, make: Callable[[], object]) -> Path:
    """The folder, which `make` fills if no process has done so. Read or copy it, never change it."""
    complete = folder.with_name(f"{folder.name}.complete")
    with alone(folder.with_name(f"{folder.name}.lock")):
        if not complete.exists():
            make()
            complete.touch()
    return folder
