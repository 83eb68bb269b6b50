"""A fork server: imports heavy modules once, and forks for every command that would import them again.

    python -m llmops_assets.machine.fork_server --socket SOCKET --folder FOLDER --preload MODULE

Returns when the server listens; the server itself stays in the background. Its client is the module `forked`.

Each connection is served by a keeper (`machine.keeper`): a fork that starts a command (`python -m MODULE ...`), holds
its locks, waits for it, ends what it leaves behind and reports its exit code. The server holds no state of a command,
so killing it loses neither a command nor its exit code. Commands inherit the server's hash seed, resource limits,
niceness and umask.
"""

import argparse
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from setproctitle import setproctitle

from llmops_assets.machine.keeper import Limits, become_keeper, become_kept, watch
from llmops_assets.machine.loaded_code import watch_imports
from llmops_assets.machine.processes import run_and_exit

MOST_FILES = 8
READY = b"r"
LOOK_EVERY_S = 1.0
IDLE_S = 900.0
"""Seconds without a connection after which the server ends: it holds about 250 MB, a new one costs one import."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m llmops_assets.machine.fork_server")
    parser.add_argument("--socket", required=True, type=Path, help="where it listens; a socket that exists is replaced")
    parser.add_argument("--folder", required=True, type=Path, help="it ends when this folder is gone")
    parser.add_argument("--preload", required=True, help="the module that is imported before any fork")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds without a connection after which it ends")
    arguments = parser.parse_args()
    # Some shells let background commands ignore SIGTERM, and a fork inherits that: no command could be cancelled.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    changed = watch_imports(lambda: _import(arguments.preload))
    listener = _listen(arguments.socket)
    sys.path.pop(0)  # the server's working directory; each command adds its own
    if os.fork():
        os._exit(0)
    # Threads do not survive a fork: those of libraries (OpenBLAS, jemalloc) are gone here, so none of them can hold a
    # lock during the forks below.
    _redirect(os.devnull, arguments.socket.with_suffix(".log"))
    module = _serve(listener, arguments.socket, arguments.folder, changed, arguments.idle)
    if module is not None:
        run_and_exit(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True))


def _import(module: str) -> None:
    importlib.import_module(module)
    if threading.active_count() > 1:
        raise RuntimeError(f"{module} starts threads, which do not survive a fork: {threading.enumerate()}")


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(path))
    listener.listen(64)
    return listener


def _serve(listener: socket.socket, path: Path, folder: Path, changed: Callable[[], bool], idle_s: float) -> str | None:
    """Forks a keeper for each connection, until the socket is removed or replaced, code has changed, or it is idle.

    Returns:
        In a forked command, the module to run; in the server, None when it ends.
    """
    inode, last = path.stat().st_ino, time.monotonic()
    while time.monotonic() - last < idle_s and _is(path, inode) and folder.exists():
        _reap()
        if not select.select([listener], [], [], LOOK_EVERY_S)[0]:
            continue
        connection, _ = listener.accept()
        if changed():
            break
        if os.fork() == 0:
            listener.close()
            return _keep(connection)
        connection.close()
        last = time.monotonic()
    if _is(path, inode):
        path.unlink(missing_ok=True)
    return None


def _is(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _keep(connection: socket.socket) -> str:
    """Serves one connection, in its own process. Returns only in the command that it forks, with the module to run.

    The command starts when its client has recorded its pid: a client that dies earlier leaves no unknown process.
    """
    os.setsid()
    try:
        connection.sendall(READY)
        _, (log, *held), _, _ = socket.recv_fds(connection, 1, MOST_FILES)
        with connection.makefile("rb") as reader:
            request = json.loads(reader.readline())
        become_keeper()
        keeper, command = os.getpid(), os.fork()
    except (OSError, ValueError):  # the client has closed the connection
        os._exit(0)
    if command == 0:
        for file in held:
            os.close(file)  # the keeper's alone: a fork of the command could outlive it
        os.setsid()  # before the client learns its pid, so that killing the process group always works
        become_kept(keeper)
        _tell(connection, {"pid": os.getpid(), "keeper": keeper})
        if not connection.recv(1):
            os._exit(0)
        connection.close()
        return _become(request, log)
    os.close(log)
    setproctitle(f"llmops: keeper of {request['module']}")
    told = request.get("told")
    status = watch(command, Limits(seconds=request.get("seconds")), Path(told) if told else None)
    for file in held:
        os.close(file)  # first: a process that learns of the end finds the locks free
    _tell(connection, {"code": os.waitstatus_to_exitcode(status)})
    os._exit(0)


def _tell(connection: socket.socket, what: dict[str, int]) -> None:
    with suppress(OSError):  # the client is gone; its command keeps running
        connection.sendall(json.dumps(what).encode() + b"\n")


def _become(request: dict[str, Any], log: int) -> str:
    """Makes this process look like `python -m MODULE ARGUMENT ...` in the client's folder; returns the module."""
    _redirect(os.devnull, log)
    os.close(log)
    module, arguments = str(request["module"]), request["arguments"]
    sys.argv = [module, *arguments]
    setproctitle(" ".join([sys.executable, "-m", *sys.argv]))  # before the environment moves
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path.insert(0, request["folder"])
    return module


def _redirect(source: str, target: Path | int) -> None:
    """Standard input from `source`; output and errors to a descriptor, or to a file that is truncated first."""
    read = os.open(source, os.O_RDONLY)
    write = target if isinstance(target, int) else os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(read, 0)
    for standard in (1, 2):
        os.dup2(write, standard)
    os.close(read)
    if write != target:
        os.close(write)


if __name__ == "__main__":
    main()
