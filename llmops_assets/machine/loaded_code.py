"""Whether the code that a process has imported is still that on disk: a fork would run the old code without a word."""

import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from llmops_assets.machine.imports import importing


def watch_imports(load: Callable[[], object]) -> Callable[[], bool]:
    """Imports by `load`; returns a check whether a loaded file has changed or a package was installed or removed.

    Our own files are recorded before they are imported: they are the ones that are edited.
    """
    own = [str(path) for path in Path(__file__).parents[1].rglob("*.py")]
    seen = {path: _stamp(path) for path in [*own, *map(sysconfig.get_path, ("purelib", "platlib"))]}
    with importing():
        load()
    loaded = {m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)}
    noted = {file: _stamp(file) for file in loaded if file} | seen
    return lambda: any(_stamp(file) != stamp for file, stamp in noted.items())


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)  # noqa: PTH116 - thousands of them at each fork
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
