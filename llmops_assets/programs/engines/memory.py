"""The main memory of a running engine."""

from contextlib import suppress
from pathlib import Path

import psutil


def peak_memory(pid: int) -> int | None:
    """Bytes of main memory that a process and its descendants held at most, so far; None: the process has ended.

    Weights that are mapped from their file count once they were read. Linux keeps the peak of each process (VmHWM in
    proc_pid_status(5)); elsewhere it is what they hold now. Memory of a GPU is not included.
    """
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return None
    found = 0
    for one in family:
        with suppress(psutil.NoSuchProcess, OSError):
            found += _peak(one)
    return found or None


def _peak(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(process.memory_info().rss)
