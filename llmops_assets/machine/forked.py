"""The client of `fork_server`: finds or starts a folder's server, and lets it fork commands."""

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
    """No server starts or answers; the message says why. No command was started."""


class Forked:
    """A command that the server has forked. It waits for `begin`."""

    def __init__(self, connection: socket.socket, pid: int, keeper: int):
        self._connection, self._told = connection, b""
        self.pid = pid
        self.keeper = keeper
        """The process that ends everything of the command; SIGTERM to it ends the command."""
        self.returncode: int | None = None
        self.lost = False
        """The keeper was killed, and its command with it; the exit code stays unknown."""

    def begin(self) -> None:
        with suppress(OSError):  # `poll` then reports it as lost
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
    """The servers of one folder: one for each environment of commands.

    Args:
        folder: for their sockets and logs; the servers end when it is removed. A link shares another folder's servers.
        preload: the module that they import before they fork.
    """

    def __init__(self, folder: Path, preload: str):
        self._named, self._preload = folder, preload

    @property
    def _folder(self) -> Path:
        return self._named.resolve()

    def connect(self, environment: Mapping[str, str]) -> socket.socket:
        """A connection for one command to a server with current code, which is started if needed.

        Args:
            environment: what libraries see while they are imported; the server sets its own HOME.

        Raises:
            NotForked: the server cannot be started.
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
            raise NotForked(f"the fork server ended right after its start; {path.with_suffix('.log')} may say why")
        return found

    def _identity(self, environment: Mapping[str, str]) -> str:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        decides = [sys.executable, self._preload, {**environment, "HOME": ""}, cores]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]

    def _start(self, path: Path, environment: Mapping[str, str]) -> None:
        home = self._folder / "home"
        home.mkdir(exist_ok=True)
        done = subprocess.run(  # it forks away by itself, into a session of its own
            [
                sys.executable,
                "-m",
                SERVER,
                "--socket",
                str(path),
                "--folder",
                str(self._folder),
                "--preload",
                self._preload,
            ],
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
        """Ends all servers of the folder; keepers and commands keep running. Those of a link stay: others share them.

        Raises:
            CannotEnd: a process cannot be ended.
        """
        if self._named.is_symlink() or not self._folder.is_dir():
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
    """A connection to the server at this path, if it is alive and its code is current."""
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
    held: Sequence[int],
    seconds: float | None = None,
    told: Path | None = None,
) -> Forked:
    """Forks `python -m MODULE ARGUMENT ...` in its own session; it waits for `begin`.

    Args:
        connection: from `connect`; the caller closes it when the command has ended.
        module: the module to run.
        arguments: of the command.
        folder: its working directory.
        environment: its whole environment.
        log: descriptor for its output and errors.
        held: descriptors that only the keeper keeps open, until nothing of the command is left.
        seconds: time limit; None: none.
        told: file that names the limit, if it was reached.

    Raises:
        NotForked: the server does not answer; the command will not start.
    """
    request = {
        "module": module, "arguments": list(arguments), "folder": str(folder), "environment": dict(environment),
        "seconds": seconds, "told": str(told) if told else None,
    }  # fmt: skip
    try:
        socket.send_fds(connection, [b"f"], [log, *held])
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as reader:
            told_pids = json.loads(reader.readline())
            return Forked(connection, int(told_pids["pid"]), int(told_pids["keeper"]))
    except (OSError, ValueError, KeyError) as error:
        connection.close()  # a command that was forked anyway ends
        raise NotForked(f"the fork server does not answer: {error}") from error
