"""What is made once in a session, however many processes of tests run: the first makes it, the others wait for it."""

from collections.abc import Callable
from pathlib import Path

from llmops_assets.machine.locks import alone


def once(folder: Path, make: Callable[[], object]) -> Path:
    """The folder, filled by `make` if nobody has. To be read or copied, never changed."""
    complete = folder.with_name(f"{folder.name}.complete")
    with alone(folder.with_name(f"{folder.name}.lock")):
        if not complete.exists():
            make()
            complete.touch()
    return folder
