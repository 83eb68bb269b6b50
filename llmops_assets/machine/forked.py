"""The client of `fork_server`: finds the server of a folder or starts it, and has commands forked by it."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from llmops_assets.machine.fork_server import READY
from llmops_assets.machine.locks import alone
from llmops_assets.machine.processes import command_line, end
from llmops_assets.machine.unix_sockets import NotPrivate, make_socket_folder, socket_folder

SERVER = "llmops_assets.machine.fork_server"
START_S = 180.0
"""Importing takes 7 s, and several times that on a busy machine."""
ANSWER_S = 20.0


class NotForked(Exception):
    """There is no server, or it does not answer; the message says why. Nothing was started."""


class Forked:
    """A command that the server has forked; it waits for `begin`."""

    def __init__(self, connection: socket.socket, pid: int):
        self._connection, self._told = connection, b""
        self.pid = pid
        self.returncode: int | None = None
        self.lost = False
        """The keeper is gone, so nobody will know the exit code; the command itself may live."""

    def begin(self) -> None:
        with suppress(OSError):  # then `poll` finds it lost
            self._connection.sendall(b"b")
        self._connection.setblocking(False)

    def poll(self) -> int | None:
        """The exit code as `subprocess` has it, negative for a signal; None while it runs, or if it is lost."""
        while self.returncode is None and not self.lost:
            try:
                heard = self._connection.recv(4096)
            except BlockingIOError:
                return None
            except OSError:
                heard = b""
            self._told += heard
            if self._told.endswith(b"\n"):
                self.returncode = int(json.loads(self._told)["code"])
            elif not heard:
                self.lost = True
        return self.returncode


class ForkServers:
    """The servers of one folder: one for each environment that commands are to have.

    Args:
        folder: for their sockets and logs; when it is gone, they end.
        preload: the module that they import before they fork.
    """

    def __init__(self, folder: Path, preload: str):
        self._folder, self._preload = folder, preload

    def connect(self, environment: Mapping[str, str]) -> socket.socket:
        """A connection for one command, to a server that has loaded today's code; started if there is none.

        Args:
            environment: what libraries may read while they are loaded; HOME is the server's own.

        Raises:
            NotForked: there is none.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = make_socket_folder(self._folder) / f"fork-{self._identity(environment)}.sock"
            with alone(self._folder / "lock"):
                found = _reach(path)
                if found is None:
                    self._start(path, environment)
                    found = _reach(path)
        except (OSError, NotPrivate, subprocess.SubprocessError) as error:
            raise NotForked(str(error)) from error
        if found is None:
            raise NotForked(f"the fork server ended as soon as it had started; {path.with_suffix('.log')} may say why")
        return found

    def _identity(self, environment: Mapping[str, str]) -> str:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        decides = [sys.executable, self._preload, {**environment, "HOME": ""}, cores]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]

    def _start(self, path: Path, environment: Mapping[str, str]) -> None:
        home = self._folder / "home"
        home.mkdir(exist_ok=True)
        done = subprocess.run(  # it forks away by itself, into a session of its own
            [sys.executable, "-m", SERVER, "--socket", str(path), "--preload", self._preload],
            cwd=self._folder,
            env={**environment, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            timeout=START_S,
        )
        if done.returncode:
            last = done.stdout.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise NotForked(f"the fork server does not start: {last[0]}")

    def end(self) -> None:
        """Ends all servers of the folder and what keeps their commands; commands themselves go on.

        Raises:
            CannotEnd: one lives on.
        """
        if not self._folder.is_dir():
            return
        sockets = str(socket_folder(self._folder) / "fork-")
        servers = [p for p in psutil.process_iter() if _serves(p, sockets)]
        end(servers, patience_s=0)
        for path in socket_folder(self._folder).glob("fork-*.sock"):
            path.unlink(missing_ok=True)


def _serves(process: psutil.Process, sockets: str) -> bool:
    words = command_line(process)
    return SERVER in words and any(word.startswith(sockets) for word in words)


def _reach(path: Path) -> socket.socket | None:
    """A connection to the server there, if it lives and its code is today's."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_S)
    try:
        connection.connect(os.fspath(path))
        if connection.recv(1) == READY:
            return connection
    except OSError:
        pass
    connection.close()
    return None


def fork(
    connection: socket.socket,
    module: str,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    log: int,
    held: int,
) -> Forked:
    """Has `python -m MODULE ARGUMENT …` forked, in a session of its own; it waits for `begin`.

    Args:
        connection: as `connect` returned it; to be closed when the command is over.
        module: what is run.
        arguments: of the command.
        folder: its working directory.
        environment: all that it sees.
        log: descriptor of its output and errors.
        held: a descriptor that it holds as long as it lives, and nobody else.

    Raises:
        NotForked: the server does not answer, and the command will not begin.
    """
    request = {
        "module": module, "arguments": list(arguments), "folder": str(folder), "environment": dict(environment),
    }  # fmt: skip
    try:
        socket.send_fds(connection, [b"f"], [log, held])
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as reader:
            return Forked(connection, int(json.loads(reader.readline())["pid"]))
    except (OSError, ValueError, KeyError) as error:
        raise NotForked(f"the fork server does not answer: {error}") from error
