"""The memory of a running engine: main memory, and that of GPUs."""

import subprocess
from collections.abc import Callable, Iterable
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


def ask_driver() -> str:
    """What nvidia-smi says of the processes on GPUs: a line `pid, MiB` for each; empty where there is none."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def gpu_memory(pid: int, ask: Callable[[], str] = ask_driver) -> int | None:
    """Bytes of GPU memory that a process and its descendants hold now, over all GPUs; None: none that is known.

    In a container the driver may know the processes by other ids only; then it is not known.
    """
    try:
        process = psutil.Process(pid)
        family = {pid, *(child.pid for child in process.children(recursive=True))}
    except psutil.NoSuchProcess:
        return None
    found = [mib for one, mib in _held(ask().splitlines()) if one in family]
    return sum(found) * 2**20 if found else None


def _held(lines: Iterable[str]) -> Iterable[tuple[int, int]]:
    for line in lines:
        pid, _, mib = (part.strip() for part in line.partition(","))
        if pid.isdecimal() and mib.isdecimal():  # "[N/A]" where the driver does not tell
            yield int(pid), int(mib)


def _peak(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(process.memory_info().rss)
