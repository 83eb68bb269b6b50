"""Keeps long-running programs alive: a detached supervisord, which outlives the process that started it.

It restarts programs as soon as they die. This module knows programs and processes, nothing about models, routes or
Dagster. supervisord's children survive when it is killed, so every process has a mark in its environment to find it
again. A program may start processes that outlive it, in their own session, as Dagster's daemon does with runs.
"""

import http.client
import os
import shlex
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
from llmops_assets.machine.unix_rpc import UnixTransport

PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
RPC_TIMEOUT_S = 30.0  # above the longest stop_wait_s: the call to stop a program returns when it has stopped


class SupervisorError(Exception):
    """The supervisor does not start or does not answer, or a process cannot be ended."""


class NoSupervisor(SupervisorError):
    """Nothing listens on the supervisor's socket: it is not running. A slow supervisor does not raise it."""


# Paths are relative to the folder in which supervisord starts: it expands some values twice, so a '%' in a path could
# not be escaped.
_CONFIGURATION = """\
[supervisord]
logfile=logs/supervisord.log
logfile_maxbytes=2MB
logfile_backups=2
childlogdir=logs
pidfile=supervisord.pid
identifier=llmops
umask=077

[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

# A failed start is retried after 1 s, 2 s, 3 s, ...: 60 retries take half an hour.
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
    """A program's state, as reported by the supervisor."""

    state: str
    pid: int


class Supervisor:
    """Keeps a set of programs running. Callers hold the lock of the folder.

    Args:
        environment: the programs' environment; default: one for engines, without secrets and with half of the cores.
        timeout_s: how long supervisord may take to answer.
    """

    def __init__(
        self,
        folder: Path,
        socket_path: Path,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = RPC_TIMEOUT_S,
    ) -> None:
        self._folder, self._timeout_s = folder, timeout_s
        self._socket = socket_path
        self._environment = environment
        self._configuration = folder / "supervisord.conf"

    def alive(self) -> bool:
        """Whether supervisord runs.

        Raises:
            SupervisorError: it runs, but does not answer: stopped, or on a machine without free time. It is not taken
                for a dead one, since starting another one ends all programs of the first.
        """
        try:
            return bool(self._ask("getState")["statename"] == "RUNNING")
        except NoSupervisor:
            return False

    def start(self, programs: Sequence[Program]) -> None:
        """Starts supervisord and its programs, after ending leftover processes of a killed supervisord.

        Raises:
            SupervisorError: it does not start; the message says why.
        """
        self.end_left_behind()
        self._write(programs)
        done = subprocess.run(  # it daemonizes itself, into its own session
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
        """Starts missing programs, stops unlisted ones, and retries those that supervisord gave up on.

        Running programs are not touched, even if their command has changed.

        Returns:
            The names of the started programs.
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
        """Restarts one program with its current configuration."""
        if name in self.processes():
            self._remove(name)
        self.apply(programs)

    def processes(self) -> dict[str, Process]:
        """Processes by program name; empty if supervisord is not running.

        Raises:
            SupervisorError: it runs, but does not answer.
        """
        try:
            found = self._ask("getAllProcessInfo")
        except NoSupervisor:
            return {}
        return {info["name"]: Process(state=info["statename"], pid=info["pid"]) for info in found}

    def stop(self, patience_s: float = 8.0) -> None:
        """Ends supervisord and all processes that it, or an earlier one, started, including their descendants.

        Raises:
            SupervisorError: a process cannot be ended.
        """
        self._end_supervisors()
        # SIGKILL: after SIGTERM a run would record that it was cancelled, not that it was interrupted and is to resume.
        self._end((p for p in self._marked() if of_another_session(p)), patience_s=0)
        self._end(self._marked(), patience_s)

    def end_left_behind(self) -> None:
        """Ends supervisord and its programs, even orphaned ones, but no process in its own session.

        Raises:
            SupervisorError: a process cannot be ended.
        """
        self._end_supervisors()
        self._end(p for p in self._marked() if not of_another_session(p))

    def _end_supervisors(self) -> None:
        # SIGKILL, and first: it has no state to save, cannot restart anything then, and SIGTERM takes it a second per
        # program.
        self._end((p for p in self._marked() if is_supervisor(p)), patience_s=0)

    def runs(self, argument: str) -> bool:
        """Whether a process of this folder has this argument on its command line."""
        return any(argument in command_line(process) for process in self._marked())

    def _marked(self) -> list[psutil.Process]:
        return marked(MARK, str(self._folder))

    def _end_strays(self) -> None:
        """Ends marked processes that do not belong to this supervisord: an earlier one left them behind."""
        suspects = self._marked()  # first, so that processes which this supervisord forks meanwhile are not suspects
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
            NoSupervisor: nothing listens.
            SupervisorError: it does not answer in time, or refuses.
        """
        transport = UnixTransport(self._socket, self._timeout_s)
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
                return getattr(server.supervisor, method)(*arguments)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoSupervisor(f"no process supervisor is running at {self._folder}") from error
        except TimeoutError as error:
            raise SupervisorError(
                f"the process supervisor of {self._folder} runs, but has not answered {method} for "
                f"{self._timeout_s:g} s; its programs run on. Remedy: if that lasts, `llmops down` and `llmops up`"
            ) from error
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise SupervisorError(f"the process supervisor failed on {method}: {error}") from error

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
    # By default an engine gets half of the cores, since training runs next to it.
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // 2)), **PASSIVE_OPENMP}
    return threads | {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def _literal(text: str) -> str:
    """Escapes a value for supervisord's configuration."""
    if any(sign in text for sign in ("\n", " ;", " #", "\t;", "\t#")):
        raise SupervisorError(f"{text!r}: a path here must not contain a line break, or a space before ';' or '#'")
    return text.replace("%", "%%")
