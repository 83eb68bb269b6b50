"""Atomic file replacement."""

import os
from pathlib import Path


def write_atomically(path: Path, text: str, via: Path | None = None) -> None:
    """Replaces a file atomically. `via`: folder of the temporary file, if `path`'s own folder is being watched."""
    temporary = (via or path.parent) / f".{path.name}.{os.getpid()}.tmp"
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
