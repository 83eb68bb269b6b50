"""Runs code that is not trusted under bubblewrap: own namespaces, a read-only system, and nothing else of this machine.

Knows folders and processes, nothing about projects. The time limit and the limits on memory and processes are those of
`machine.keeper`, and also hold where bubblewrap cannot be used.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from llmops_assets.domain.models import Frozen
from llmops_assets.machine import keeper

BWRAP = "bwrap"
PACKAGE = Path(__file__).parents[1]
"""Our own code, which may lie beside a home folder: only the package itself is shown."""
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_OF_ETC = ("ld.so.cache", "alternatives", "localtime", "mime.types")
_NOBODY = 65534
_SCRATCH = 2**30
"""Bytes of /tmp and /dev/shm each: they are memory."""


class Limits(Frozen):
    seconds: float
    memory: int
    """Bytes, of all processes together."""
    processes: int


class Ended(Frozen):
    """How the code ended."""

    code: int
    """Exit code, negative for a signal."""
    limit: str | None
    """The limit that was reached: seconds, memory or processes."""
    seconds: float


@cache
def problem() -> str | None:
    """Why code cannot be isolated on this machine, with the remedy; None if it can. Tried once per process."""
    if sys.platform != "linux":
        return "bubblewrap needs Linux"
    if shutil.which(BWRAP) is None:
        return "bubblewrap is not installed (Debian, Ubuntu: apt-get install bubblewrap)"
    try:
        done = subprocess.run(
            [*_walls(()), sys.executable, "-c", ""],
            capture_output=True,
            text=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not run here: {error}"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return (
            "bubblewrap does not run here (in most containers the kernel refuses user namespaces: then the container "
            f"is the only isolation of the code): {last}"
        )
    return None


def run_apart(
    command: Sequence[str],
    *,
    folder: Path,
    writable: Sequence[Path],
    log: Path,
    environment: Mapping[str, str],
    limits: Limits,
    isolated: bool,
    given: bytes = b"",
    readable: Sequence[Path] = (),
) -> Ended:
    """Runs a command to its end; nothing that it has started is left afterwards, also if this process is killed.

    Args:
        command: words; with an absolute path, or a name on the PATH.
        folder: its working directory, one of `writable` or below one.
        writable: the only folders that it sees besides system and interpreter, under their own paths.
        log: file for its output.
        environment: its whole environment.
        limits: what it may use.
        isolated: under bubblewrap; `problem` is None.
        given: its standard input.
        readable: further folders that it sees, and cannot change.
    """
    told = log.with_suffix(".limit")
    told.unlink(missing_ok=True)
    words = [
        *(sys.executable, "-I", "-S", keeper.__file__, "--told", str(told), "--grace", "0"),
        *("--with-parent", str(os.getpid()), "--seconds", str(limits.seconds)),
        *("--memory", str(limits.memory), "--processes", str(limits.processes), "--"),
    ]
    if isolated:
        words += [*_walls(writable, readable), "--chdir", str(folder)]
    began = time.monotonic()
    with log.open("wb") as output:
        done = subprocess.run(
            [*words, *command],
            cwd=folder,
            env=dict(environment),
            input=given,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    # Inside, bubblewrap's own first process reports a signal as a shell does.
    code = 128 - done.returncode if isolated and done.returncode > 128 else done.returncode
    limit = json.loads(told.read_text())["limit"] if told.exists() else None
    told.unlink(missing_ok=True)
    return Ended(code=code, limit=limit, seconds=time.monotonic() - began)


def _walls(writable: Sequence[Path], readable: Sequence[Path] = ()) -> list[str]:
    """bubblewrap's arguments, up to the command. It ends with its parent, and all processes inside end with it."""
    words = [
        *(BWRAP, "--unshare-user", "--uid", str(_NOBODY), "--gid", str(_NOBODY), "--cap-drop", "ALL"),
        *("--unshare-pid", "--unshare-ipc", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        *("--hostname", "project", "--die-with-parent", "--new-session"),
        *("--size", str(_SCRATCH), "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"),
        *("--size", str(_SCRATCH), "--tmpfs", "/dev/shm", "--ro-bind", "/usr", "/usr"),
    ]
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    for name in _OF_ETC:
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for path in (*_interpreter(), *readable):
        words += ["--ro-bind", str(path), str(path)]
    for path in writable:
        words += ["--bind", str(path), str(path)]
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/"]


def _interpreter() -> list[Path]:
    """The folders that this Python needs: its own, those of its environment, and our package."""
    paths = [Path(sys.base_prefix), Path(sys.prefix), Path(sys.executable).resolve().parents[1], PACKAGE]
    found = dict.fromkeys(p for path in paths for p in (path, path.resolve()))
    return [p for p in found if p != Path("/usr") and Path("/usr") not in p.parents and p != Path("/")]
