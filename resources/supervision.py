"""The supervisor under everything that serves: supervisord, detached, so that it outlives whoever started it.

It restarts at once what dies. This module knows programs and processes, nothing of models or routes. supervisord's
children outlive it when it is killed, so every process carries a mark in its environment by which it is found again.
"""

import http.client
import os
import shlex
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

from llmops_assets.domain.base import Frozen
from resources.serving_state import ServingError, write_atomically

MARK = "LLMOPS_SERVING"
PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
RPC_TIMEOUT_S = 30.0  # above the longest stop_wait_s: stopping a program answers when it has stopped

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
    """Keeps a set of programs running. Callers hold the lock of the folder."""

    def __init__(self, folder: Path, socket_path: Path) -> None:
        self._folder = folder
        self._socket = socket_path
        self._configuration = folder / "supervisord.conf"

    @property
    def _rpc(self) -> Any:
        return xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self._socket)).supervisor

    def alive(self) -> bool:
        try:
            return bool(self._rpc.getState()["statename"] == "RUNNING")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def start(self, programs: Sequence[Program]) -> None:
        """Starts supervisord and its programs, having ended what a killed one left behind.

        Raises:
            ServingError: it does not start; says why.
        """
        self.stop()
        self._write(programs)
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        done = subprocess.run(  # it forks away by itself, into a session of its own
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._configuration)],
            cwd=self._folder,
            env=environment | {MARK: str(self._folder), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode or not wait_for(self.alive, 10.0):
            raise ServingError(f"the process supervisor does not start: {done.stdout.strip() or 'no answer in 10 s'}")

    def apply(self, programs: Sequence[Program]) -> tuple[str, ...]:
        """Starts what is missing, stops what is not listed, gives a new try to what had been given up.

        What runs already is left alone, even where its command differs now.

        Returns:
            The names of what was started.
        """
        self._write(programs)
        rpc = self._rpc
        rpc.reloadConfig()
        wanted = {program.name for program in programs}
        running = self.processes()
        for name in running.keys() - wanted:
            self._remove(name)
        missing = [p.name for p in programs if p.name not in running]
        for name in missing:
            rpc.addProcessGroup(name)
        given_up = [name for name in sorted(wanted & running.keys()) if running[name].state in ("FATAL", "STOPPED")]
        for name in given_up:
            rpc.startProcess(name, False)
        ours = self._descendants()
        end(p for p in self.marked() if p.pid not in ours)
        return (*missing, *given_up)

    def replace(self, name: str, programs: Sequence[Program]) -> None:
        """Ends one program and starts it as it is configured now."""
        if name in self.processes():
            self._remove(name)
        self.apply(programs)

    def processes(self) -> dict[str, Process]:
        """By program; empty while supervisord does not run."""
        try:
            found = self._rpc.getAllProcessInfo()
        except (OSError, http.client.HTTPException):
            return {}
        return {info["name"]: Process(state=info["statename"], pid=info["pid"]) for info in found}

    def stop(self) -> None:
        """Ends supervisord and every process that it, or an earlier one, has started.

        Raises:
            ServingError: a process cannot be ended.
        """
        if self.alive():
            self._rpc.shutdown()
            wait_for(lambda: not self.marked(), 15.0)
        end(self.marked())

    def marked(self) -> list[psutil.Process]:
        """Every living process that belongs to this folder, whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(self._folder) and is_alive(process):
                    found.append(process)
            except (psutil.Error, OSError):
                continue  # another user's, or gone
        return found

    def runs(self, argument: str) -> bool:
        """Whether a process of this folder has this argument on its command line."""
        for process in self.marked():
            try:
                if argument in process.cmdline():
                    return True
            except psutil.Error:
                continue
        return False

    def _descendants(self) -> set[int]:
        root = psutil.Process(self._rpc.getPID())
        return {root.pid, *(child.pid for child in root.children(recursive=True))}

    def _remove(self, name: str) -> None:
        self._rpc.stopProcessGroup(name)
        self._rpc.removeProcessGroup(name)

    def _write(self, programs: Sequence[Program]) -> None:
        socket_path = self._socket.relative_to(self._folder) if self._folder in self._socket.parents else self._socket
        parts = [_CONFIGURATION.format(socket=socket_path)]
        for program in programs:
            command = _literal(shlex.join(program.command))
            parts.append(_PROGRAM.format(name=program.name, command=command, stop_wait_s=program.stop_wait_s))
        write_atomically(self._configuration, "".join(parts))


def _literal(text: str) -> str:
    """A value as supervisord's configuration takes it."""
    if any(sign in text for sign in ("\n", " ;", " #", "\t;", "\t#")):
        raise ServingError(f"{text!r}: a path here may hold no line break and no blank before ';' or '#'")
    return text.replace("%", "%%")


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie that nobody reaps is gone."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end(processes: Iterable[psutil.Process], patience_s: float = 8.0) -> None:
    """Asks processes to end, then makes them.

    Raises:
        ServingError: one lives on.
    """
    left = list(processes)
    for ask, wait_s in ((psutil.Process.terminate, patience_s), (psutil.Process.kill, 5.0)):
        for process in left:
            try:
                ask(process)
            except psutil.NoSuchProcess:
                continue
        wait_for(lambda: not any(is_alive(p) for p in left), wait_s)
        left = [p for p in left if is_alive(p)]
    if left:
        raise ServingError(f"these processes cannot be ended: {', '.join(str(p.pid) for p in left)}")


def wait_for(condition: Callable[[], bool], timeout_s: float, every_s: float = 0.05) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every_s)
    return True
