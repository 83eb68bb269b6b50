"""Processes of this machine: find marked ones, check whether one is alive, and end it."""

import atexit
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil

MARK = "LLMOPS_SUPERVISED"
"""Environment variable of a supervisor and all its descendants: the supervisor's folder."""
PASSIVE_OPENMP = {"OMP_WAIT_POLICY": "passive"}
"""OpenMP threads sleep at a barrier instead of spinning. Next to other busy processes, spinning starves the thread
that it waits for: beside four busy processes on 4 cores, llama.cpp fell from 12.8 to 1.5 tokens/s when spinning, and
from 19.9 to 11.6 when sleeping."""


class CannotEnd(Exception):
    """A process cannot be ended."""


def marked(name: str, value: str) -> list[psutil.Process]:
    """All living processes of this user that were started with this environment variable, whatever their parent."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value and is_alive(process):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # another user's, or ended
    return found


def of_another_session(process: psutil.Process) -> bool:
    """Whether the process belongs to a living session other than its supervisor's: supervised programs share that one.

    A session id is not reused while one of its processes lives.
    """
    try:
        leader = psutil.Process(os.getsid(process.pid))
    except (psutil.Error, OSError):
        return False
    return is_alive(leader) and not is_supervisor(leader)


def is_supervisor(process: psutil.Process) -> bool:
    return "supervisor.supervisord" in command_line(process)


def birth(pid: int) -> str:
    """Identifies a process among all that ever have the same pid, also across reboots.

    Uses the boot id and the start time in ticks since boot. `psutil`'s creation time depends on the wall clock: if that
    is changed, a living process looks like another one.

    Raises:
        OSError: no such process.
    """
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{ticks}"


def is_alive(process: psutil.Process) -> bool:
    """Whether the process still runs; an unreaped zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def command_line(process: psutil.Process) -> list[str]:
    """The process's arguments; empty if it has ended."""
    try:
        words = list(process.cmdline())
    except psutil.Error:
        return []
    # A title that a process gave itself is one text, and what it covers of the old arguments is empty.
    return words if any(words[1:]) else words[0].split() if words else []


def end(processes: Iterable[psutil.Process], patience_s: float) -> None:
    """Terminates processes, and kills those still alive after `patience_s` seconds; with 0, kills at once.

    Raises:
        CannotEnd: a process is still alive.
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
    """Waits until all have ended or the time is over; returns those still alive."""
    wait_for(lambda: not any(is_alive(p) for p in processes), wait_s)
    return [p for p in processes if is_alive(p)]


def wait_for(condition: Callable[[], bool], timeout_s: float, every_s: float = 0.05) -> bool:
    """Polls until the condition is true; returns whether that happened in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every_s)
    return True


def exit_code_of(main: Callable[[], object]) -> int:
    """Runs `main` in a forked process, and prints what an interpreter would at its end; returns the exit code."""
    try:
        main()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def run_and_exit(main: Callable[[], object]) -> NoReturn:
    """Runs `main` in a forked process, and ends it as an interpreter does, except that nothing is freed.

    Freeing every module, and copying the memory pages that this writes to, costs 0.4 CPU s where torch is imported.
    """
    code = 1
    try:
        code = exit_code_of(main)
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as multiprocessing's forks do
        atexit._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # closed, or its disk is full
                stream.flush()
        ctypes.CDLL(None).fflush(None)  # what libraries in C have printed
        os._exit(code)
