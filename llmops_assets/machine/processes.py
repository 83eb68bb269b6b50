"""Processes of this machine: those that carry a mark, whether one lives, and how to end it. Not what they are for."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "LLMOPS_SUPERVISED"
"""In the environment of a supervisor and of all that it starts: its folder."""
PASSIVE_OPENMP = {"OMP_WAIT_POLICY": "passive"}
"""OpenMP threads sleep at a barrier instead of spinning. Spinning beside other busy processes starves the very thread
that is waited for: llama.cpp fell from 12.8 to 1.5 tokens/s beside four busy processes on 4 cores, 19.9 to 11.6 so."""


class CannotEnd(Exception):
    """A process lives on whatever is done."""


def marked(name: str, value: str) -> list[psutil.Process]:
    """Every living process of this user that was started with this environment variable, whoever its parent is now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value and is_alive(process):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # another user's, or gone
    return found


def of_another_session(process: psutil.Process) -> bool:
    """Whether it, or who began it, has a living session of its own: what a supervisor starts shares the supervisor's.

    The number of a session is not given to another process while one of its processes lives.
    """
    try:
        leader = psutil.Process(os.getsid(process.pid))
    except (psutil.Error, OSError):
        return False
    return is_alive(leader) and not is_supervisor(leader)


def is_supervisor(process: psutil.Process) -> bool:
    return "supervisor.supervisord" in command_line(process)


def birth(pid: int) -> str:
    """What tells a process from every other one that has its pid at another time, also after a reboot.

    Counted from the boot by a clock that nobody sets. `psutil`'s creation time is one of the wall clock: when that is
    set, a living process seems to be another.

    Raises:
        OSError: there is no such process.
    """
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{ticks}"


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie that nobody reaps is gone."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def command_line(process: psutil.Process) -> list[str]:
    """Its arguments; none if it is gone."""
    try:
        words = list(process.cmdline())
    except psutil.Error:
        return []
    # A title that a process gave itself is one text, and what it covers of the old arguments is empty.
    return words if any(words[1:]) else words[0].split() if words else []


def end(processes: Iterable[psutil.Process], patience_s: float) -> None:
    """Asks processes to end, and makes those that have not after `patience_s` seconds; unasked without patience.

    Raises:
        CannotEnd: one lives on.
    """
    left = list(processes)
    for ask, wait_s in ((psutil.Process.terminate, patience_s), (psutil.Process.kill, 5.0))[patience_s <= 0 :]:
        for process in left:
            with suppress(psutil.NoSuchProcess):
                ask(process)
        left = _outlast(left, wait_s)
    if left:
        raise CannotEnd(f"these processes cannot be ended: {', '.join(str(p.pid) for p in left)}")


def _outlast(processes: list[psutil.Process], wait_s: float) -> list[psutil.Process]:
    """Those that still live when all are gone or the time is over."""
    wait_for(lambda: not any(is_alive(p) for p in processes), wait_s)
    return [p for p in processes if is_alive(p)]


def wait_for(condition: Callable[[], bool], timeout_s: float, every_s: float = 0.05) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every_s)
    return True
