"""The supervisor under everything that stays up: supervisord, detached, so that it outlives whoever started it.

It restarts at once what dies. This module knows programs and processes, nothing of models, routes or Dagster.
supervisord's children outlive it when it is killed, so every process carries a mark in its environment by which it is
found again. A program may begin what is to outlive it, as Dagster's daemon does with runs: in a session of its own.
"""

import http.client
import os
import shlex
import socket
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from llmops_assets.domain.models import Frozen
from llmops_assets.machine.files import write_atomically
from llmops_assets.machine.processes import (
    MARK,
    PASSIVE_OPENMP,
    CannotEnd,
    command_line,
    end,
    is_supervisor,
    marked,
    of_another_session,
    wait_for,
)  # fmt: skip

PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
RPC_TIMEOUT_S = 30.0  # above the longest stop_wait_s: stopping a program answers when it has stopped


class SupervisorError(Exception):
    """The supervisor does not start or does not answer, or a process cannot be ended."""


# Paths are relative to the folder, where supervisord is started: it expands some values twice, so that a '%' in one
# could not be written.
_CONFIGURATION = """\
[supervisord]
logfile=logs/supervisord.log
logfile_maxbytes=2MB
logfile_backups=2
childlogdir=logs
pidfile=supervisord.pid
identifier=llmops

[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

# A start that fails is tried again after 1 s, 2 s, 3 s, ...: 60 of them take half an hour.
_PROGRAM = """
[program:{name}]
command={command}
autostart=true
autorestart=true
startsecs=1
startretries=60
stopwaitsecs={stop_wait_s}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile=logs/{name}.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
"""


class Program(Frozen):
    name: str
    command: tuple[str, ...]
    stop_wait_s: int = 5


class Process(Frozen):
    """What the supervisor says of a program."""

    state: str
    pid: int


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return UnixConnection(self._path, RPC_TIMEOUT_S)


class Supervisor:
    """Keeps a set of programs running. Callers hold the lock of the folder.

    Args:
        environment: what programs see; if left out, what is fit for engines: no secrets, and half of the cores.
    """

    def __init__(self, folder: Path, socket_path: Path, environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._socket = socket_path
        self._environment = environment
        self._configuration = folder / "supervisord.conf"

    def alive(self) -> bool:
        try:
            return bool(self._ask("getState")["statename"] == "RUNNING")
        except SupervisorError:
            return False

    def start(self, programs: Sequence[Program]) -> None:
        """Starts supervisord and its programs, having ended what a killed one left behind.

        Raises:
            SupervisorError: it does not start; says why.
        """
        self.end_left_behind()
        self._write(programs)
        done = subprocess.run(  # it forks away by itself, into a session of its own
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._configuration)],
            cwd=self._folder,
            env={**(self._environment or _for_engines()), MARK: str(self._folder), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode or not wait_for(self.alive, 10.0):
            raise SupervisorError(
                f"the process supervisor does not start: {done.stdout.strip() or 'no answer in 10 s'}"
            )

    def apply(self, programs: Sequence[Program]) -> tuple[str, ...]:
        """Starts what is missing, stops what is not listed, gives a new try to what had been given up.

        What runs already is left alone, even where its command differs now.

        Returns:
            The names of what was started.
        """
        self._write(programs)
        self._ask("reloadConfig")
        wanted = {program.name for program in programs}
        running = self.processes()
        for name in running.keys() - wanted:
            self._remove(name)
        missing = [p.name for p in programs if p.name not in running]
        for name in missing:
            self._ask("addProcessGroup", name)
        given_up = [name for name in sorted(wanted & running.keys()) if running[name].state in ("FATAL", "STOPPED")]
        for name in given_up:
            self._ask("startProcess", name, False)
        self._end_strays()
        return (*missing, *given_up)

    def replace(self, name: str, programs: Sequence[Program]) -> None:
        """Ends one program and starts it as it is configured now."""
        if name in self.processes():
            self._remove(name)
        self.apply(programs)

    def processes(self) -> dict[str, Process]:
        """By program; empty while supervisord does not run."""
        try:
            found = self._ask("getAllProcessInfo")
        except SupervisorError:
            return {}
        return {info["name"]: Process(state=info["statename"], pid=info["pid"]) for info in found}

    def stop(self, patience_s: float = 8.0) -> None:
        """Ends supervisord and every process that it, or an earlier one, has started; and whatever those began.

        Raises:
            SupervisorError: a process cannot be ended.
        """
        self._end_supervisors()
        # By force: asked politely it would note that it was cancelled, and not that it was cut off and is to go on.
        self._end((p for p in self._marked() if of_another_session(p)), patience_s=0)
        self._end(self._marked(), patience_s)

    def end_left_behind(self) -> None:
        """Ends supervisord and its programs, however they lost each other, but nothing in a session of its own.

        Raises:
            SupervisorError: a process cannot be ended.
        """
        self._end_supervisors()
        self._end(p for p in self._marked() if not of_another_session(p))

    def _end_supervisors(self) -> None:
        # By force and first: it has nothing to save, can start nothing again then, and asked politely it takes a second
        # per program.
        self._end((p for p in self._marked() if is_supervisor(p)), patience_s=0)

    def runs(self, argument: str) -> bool:
        """Whether a process of this folder has this argument on its command line."""
        return any(argument in command_line(process) for process in self._marked())

    def _marked(self) -> list[psutil.Process]:
        return marked(MARK, str(self._folder))

    def _end_strays(self) -> None:
        """Ends what carries the mark and is not of this supervisord: an earlier one left it behind."""
        suspects = self._marked()  # first: what this supervisord forks in between is no suspect then
        root = psutil.Process(self._ask("getPID"))
        ours = {root.pid, *(child.pid for child in root.children(recursive=True))}
        self._end([p for p in suspects if p.pid not in ours and not of_another_session(p)])

    def _end(self, processes: Iterable[psutil.Process], patience_s: float = 8.0) -> None:
        try:
            end(processes, patience_s)
        except CannotEnd as error:
            raise SupervisorError(str(error)) from error

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Calls supervisord.

        Raises:
            SupervisorError: it does not answer, or refuses.
        """
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self._socket)) as server:
                return getattr(server.supervisor, method)(*arguments)
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise SupervisorError(f"the process supervisor, asked to {method}: {error}") from error

    def _remove(self, name: str) -> None:
        self._ask("stopProcessGroup", name)
        self._ask("removeProcessGroup", name)

    def _write(self, programs: Sequence[Program]) -> None:
        socket_path = self._socket.relative_to(self._folder) if self._folder in self._socket.parents else self._socket
        parts = [_CONFIGURATION.format(socket=socket_path)]
        for program in programs:
            command = _literal(shlex.join(program.command))
            parts.append(_PROGRAM.format(name=program.name, command=command, stop_wait_s=program.stop_wait_s))
        write_atomically(self._configuration, "".join(parts))


def _for_engines() -> dict[str, str]:
    # Half of the cores for an engine that is not told otherwise: training works beside it.
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // 2)), **PASSIVE_OPENMP}
    return threads | {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def _literal(text: str) -> str:
    """A value as supervisord's configuration takes it."""
    if any(sign in text for sign in ("\n", " ;", " #", "\t;", "\t#")):
        raise SupervisorError(f"{text!r}: a path here may hold no line break and no blank before ';' or '#'")
    return text.replace("%", "%%")
