"""A wall clock that a test sets, for the processes that it starts; the machine's own clock does not change."""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

COMPILER = shutil.which("cc")
"""None: there is no clock that can be set."""


class Clock:
    """The wall clock of every process that is started with `environment`. Needs a C compiler."""

    def __init__(self, folder: Path):
        file, library = folder / "ahead", folder / "wall_clock.so"
        source = Path(__file__).with_name("wall_clock.c")
        subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_AHEAD": str(file)}
        file.write_bytes(bytes(mmap.PAGESIZE))
        with file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), mmap.PAGESIZE)

    def set(self, ahead: int) -> None:
        """Sets the clock this many seconds ahead of the machine's own."""
        self._shared[:8] = struct.pack("=q", ahead)
