"""A process that has imported heavy modules once, and forks for every command that would import them again.

    python -m llmops_assets.machine.fork_server --socket SOCKET --preload MODULE

The command returns when the server listens; the server itself goes on in the background, and `forked` is its client.

Each connection is served by a keeper, a fork that starts one command, waits for it and tells its exit code. The server
holds nothing of a command, so a killed server loses none and not even an exit code. Commands are `python -m MODULE …`.
What only a new interpreter reads (the hash seed, limits, niceness, umask) they have from the server.
"""

import argparse
import gc
import importlib
import json
import os
import runpy
import select
import socket
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from setproctitle import setproctitle

READY = b"r"
LOOK_EVERY_S = 1.0
IDLE_S = 900.0
"""Then it ends: it holds about 250 MB of its own, and a new one costs one import more."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m llmops_assets.machine.fork_server")
    parser.add_argument("--socket", required=True, type=Path, help="where it listens; what lies there is replaced")
    parser.add_argument("--preload", required=True, help="the module that is imported before any fork")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds without a connection after which it ends")
    arguments = parser.parse_args()
    changed = _watch_code(arguments.preload)
    listener = _listen(arguments.socket)
    sys.path.pop(0)  # the folder that the server was started in; each command has its own
    gc.collect()
    gc.freeze()  # a collection in a fork would touch, and so copy, every page
    if os.fork():
        os._exit(0)
    # Threads do not live through a fork: those of libraries (OpenBLAS, jemalloc) are gone here, and no fork below
    # begins while one of them holds a lock.
    _redirect(os.devnull, arguments.socket.with_suffix(".log"))
    module = _serve(listener, arguments.socket, changed, arguments.idle)
    if module is not None:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _watch_code(preload: str) -> Callable[[], bool]:
    """Imports a module, and returns how to tell whether a file that was loaded has changed, or a package came or went.

    Files of our own are noted before they are read: they are the ones that somebody edits.
    """
    own = [str(path) for path in Path(__file__).parents[1].rglob("*.py")]
    seen = {path: _stamp(path) for path in [*own, *map(sysconfig.get_path, ("purelib", "platlib"))]}
    importlib.import_module(preload)
    if threading.active_count() > 1:
        raise RuntimeError(f"{preload} starts threads, which do not live through a fork: {threading.enumerate()}")
    loaded = {m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)}
    noted = {file: _stamp(file) for file in loaded if file} | seen
    return lambda: any(_stamp(file) != stamp for file, stamp in noted.items())


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)  # noqa: PTH116 - thousands of them at each connection
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(path))
    listener.listen(64)
    return listener


def _serve(listener: socket.socket, path: Path, changed: Callable[[], bool], idle_s: float) -> str | None:
    """Forks a keeper for each connection, until the socket is gone or replaced, code has changed, or nobody comes.

    Returns:
        In a forked command, what it is to run; None in the server, when it ends.
    """
    inode, last = path.stat().st_ino, time.monotonic()
    while time.monotonic() - last < idle_s and _is(path, inode):
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
    """Serves one connection, in a process of its own. Only the command that it forks returns, with what it is to run.

    The command begins when its client has noted its pid: a client that dies before leaves nothing running unknown.
    """
    os.setsid()
    try:
        connection.sendall(READY)
        _, files, _, _ = socket.recv_fds(connection, 1, 2)
        with connection.makefile("rb") as reader:
            request = json.loads(reader.readline())
        command = os.fork()
    except (OSError, ValueError):  # its client only looked, or is gone
        os._exit(0)
    if command == 0:
        os.setsid()  # before its pid is told: by then it can be ended with its group
        _tell(connection, {"pid": os.getpid()})
        if not connection.recv(1):
            os._exit(0)
        connection.close()
        return _become(request, *files)
    for file in files:
        os.close(file)
    _, status = os.waitpid(command, 0)
    _tell(connection, {"code": os.waitstatus_to_exitcode(status)})
    os._exit(0)


def _tell(connection: socket.socket, what: dict[str, int]) -> None:
    with suppress(OSError):  # the client is gone: what it started goes on
        connection.sendall(json.dumps(what).encode() + b"\n")


def _become(request: dict[str, Any], log: int, held: int) -> str:
    """Makes this process what `python -m MODULE ARGUMENT …` would be in the client's folder; the module's name."""
    os.set_inheritable(held, False)  # for this process alone, as long as it lives
    _redirect(os.devnull, log)
    os.close(log)
    module, arguments = str(request["module"]), request["arguments"]
    sys.argv = [module, *arguments]
    setproctitle(" ".join([sys.executable, "-m", *sys.argv]))  # first: it looks for the environment where it was
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path.insert(0, request["folder"])
    return module


def _redirect(source: str, target: Path | int) -> None:
    """Standard input from `source`; output and errors to a file, from its beginning, or to a descriptor."""
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
