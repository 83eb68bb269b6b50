"""Runs one command, and ends everything that it has started when it ends, or when a limit is reached.

    python -I -S keeper.py [--seconds N] [--memory BYTES] [--processes N] [--told FILE] [--with-parent] -- COMMAND …

A process group does not hold what calls `setsid`, and a lock passed to a program is also held by its forks. The keeper
is the subreaper of all that its command starts, so orphans become its children, and it alone holds the locks given to
it (`--hold`): when they are free, nothing of the command is left. Ends with the command's exit code or signal. SIGTERM
ends the command. If the keeper itself is killed, the command dies with it. Imports the standard library only, for it
starts once for every program.
"""

import argparse
import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

GRACE_S = 5.0
"""Between SIGTERM and SIGKILL. The folders of a program are made for being killed; this only saves work."""
LOOK_EVERY_S = 0.5
SIGNALS = frozenset({signal.SIGCHLD, signal.SIGTERM})
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PAGE = resource.getpagesize()


@dataclass(frozen=True)
class Limits:
    """None: no limit."""

    seconds: float | None = None
    memory: int | None = None
    """Bytes, of all processes together."""
    processes: int | None = None
    grace_s: float = GRACE_S


def become_keeper() -> None:
    """Makes this process the parent of all orphans of its command. Call it before the command is forked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def become_kept(keeper: int) -> None:
    """In the forked command: dies with its keeper, and receives signals again."""
    die_with(keeper, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # some shells let background commands ignore it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def die_with(parent: int, signum: int) -> None:
    """Has the kernel send a signal to this process when its parent ends in any way."""
    _prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os._exit(128 + signum)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":  # elsewhere a command's process group is all that can be ended
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def watch(command: int, limits: Limits, told: Path | None = None) -> int:
    """Waits until the command has ended, and ends what is left of it.

    Args:
        command: pid of a child that leads its own process group.
        limits: see `Limits`.
        told: file that names the limit that was reached: {"limit": "seconds", "value": 60}.

    Returns:
        The command's wait status.
    """
    began, kill_at = time.monotonic(), float("inf")
    stopping = False
    while (status := _reap(command)) is None:
        now = time.monotonic()
        reached = None if stopping else _reached(limits, now - began)
        if reached is not None:
            if told is not None:
                _tell(told, reached, getattr(limits, reached))
            stopping, kill_at = True, now + (limits.grace_s if reached == "seconds" else 0.0)
            _signal(-command, signal.SIGTERM)
        if now >= kill_at:
            for pid in descendants():
                _signal(pid, signal.SIGKILL)
        left = limits.seconds - (now - began) if limits.seconds is not None and not stopping else LOOK_EVERY_S
        heard = signal.sigtimedwait(SIGNALS, min(LOOK_EVERY_S, max(left, 0.01)) if now < kill_at else 0.01)
        if heard is not None and heard.si_signo == signal.SIGTERM and not stopping:
            stopping, kill_at = True, time.monotonic() + limits.grace_s
            _signal(-command, signal.SIGTERM)
    _end_all()
    return status


def _reap(command: int) -> int | None:
    """Reaps all ended children; the command's wait status once it has ended."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == command:
                found = status
    return found


def _end_all() -> None:
    """Kills until no child is left: a process that forks meanwhile leaves an orphan, which is found the next time."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        for pid in descendants():
            _signal(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def _reached(limits: Limits, seconds: float) -> str | None:
    if limits.seconds is not None and seconds >= limits.seconds:
        return "seconds"
    if limits.memory is None and limits.processes is None:
        return None
    pids = descendants()
    if limits.processes is not None and len(pids) > limits.processes:
        return "processes"
    if limits.memory is not None and sum(map(_memory, pids)) > limits.memory:
        return "memory"
    return None


def descendants() -> list[int]:
    """All processes below this one."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc") if Path("/proc").is_dir() else ():  # noqa: PTH208 - names, twice a second
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = Path(f"/proc/{entry}/stat").read_text(errors="replace")
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found: list[int] = []
    left = [os.getpid()]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def _memory(pid: int) -> int:
    """Bytes that are this process's own: pages of libraries, which others share, are left out."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE


def _signal(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def _tell(file: Path, limit: str, value: float) -> None:
    part = file.with_name(f"{file.name}.part")
    part.write_text(json.dumps({"limit": limit, "value": value}))
    part.replace(file)


def _limit_resources(limits: Limits) -> None:
    """A single process cannot outrun the watch: it gets a MemoryError at the limit of all together."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.memory is not None:
        for kind in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE):
            _, hard = resource.getrlimit(kind)
            most = limits.memory if hard == resource.RLIM_INFINITY else min(hard, limits.memory)
            resource.setrlimit(kind, (most, most))


def end_like(status: int) -> None:
    """Ends this process as the command has ended, so that its parent sees no difference."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
        os.kill(os.getpid(), -code)
    os._exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(prog="keeper.py")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--memory", type=int)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--grace", type=float, default=GRACE_S)
    parser.add_argument("--told", type=Path)
    parser.add_argument(
        "--hold", type=int, action="append", default=[], help="descriptor that the command must not get"
    )
    parser.add_argument("--with-parent", type=int, metavar="PID", help="end when this process, the parent, ends")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    limits = Limits(seconds=given.seconds, memory=given.memory, processes=given.processes, grace_s=given.grace)
    for descriptor in given.hold:
        os.set_inheritable(descriptor, False)
    become_keeper()
    if given.with_parent is not None:
        die_with(given.with_parent, signal.SIGTERM)
    keeper = os.getpid()
    command = os.fork()
    if command == 0:
        os.setsid()
        become_kept(keeper)
        _limit_resources(limits)
        try:
            os.execvp(given.command[0], given.command)
        except OSError as error:
            os.write(2, f"{given.command[0]}: {error.strerror}\n".encode())
            os._exit(127)
    end_like(watch(command, limits, given.told))


if __name__ == "__main__":
    main()
