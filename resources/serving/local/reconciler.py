"""Reconciles processes and files of the local serving with the desired state.

Every change goes through it, so the next call completes an interrupted one. `serving` decides the desired state.
Callers hold the state's lock.
"""

import http.client
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmops_assets.config.serving import ServingSettings
from llmops_assets.machine import ports
from llmops_assets.machine.files import write_if_changed
from llmops_assets.machine.processes import wait_for
from llmops_assets.machine.supervisor import Program, Supervisor, SupervisorError
from resources.serving.interface import ServingError
from resources.serving.local.envoy import Gateway
from resources.serving.local.state import Replica, State, StateFiles

ENGINE = (sys.executable, "-m", "llmops_assets.programs.serve")
FAILED_STARTS = 2  # an engine that exits this often before it is healthy will not come up without help


@contextmanager
def as_serving_errors() -> Iterator[None]:
    """Converts the supervisor's errors to serving errors."""
    try:
        yield
    except SupervisorError as error:
        raise ServingError(str(error)) from error


class Reconciler:
    def __init__(
        self, files: StateFiles, settings: ServingSettings, engine: tuple[str, ...], answer_timeout_s: float
    ) -> None:
        self._files = files
        self._settings = settings
        self._engine = engine
        self.supervisor = Supervisor(files.folder, files.sockets / "supervisor.sock", None, answer_timeout_s)
        access_log = files.log("access")
        self.gateway = Gateway(files.gateway, files.sockets / "envoy.sock", settings, files.access, access_log)

    @as_serving_errors()
    def to(self, state: State) -> tuple[str, ...]:
        """Stores the state and applies it; engines may still be loading when this returns.

        Returns:
            The names of programs that should have been running and had to be started.

        Raises:
            ServingError: the gateway's port is in use (then nothing is changed), or a program does not start.
        """
        before = {replica.name for replica in self._files.read().replicas}
        current = self.supervisor.runs(str(self.gateway.configuration))
        if not current:
            self._require_port()
        alive = self.supervisor.alive()
        if not alive:
            self.supervisor.stop()  # leftover processes of a killed supervisor hold the ports
        state = self._with_free_ports(state)
        self._files.write(state)
        moved = [replica.name for replica in state.replicas if self._write_spec(replica)]
        programs = [self.gateway.program(), *(self._program(r) for r in state.replicas)]
        started: tuple[str, ...] = ()
        if not alive:
            self.gateway.prepare(state)
            self.supervisor.start(programs)
            started = ("supervisor", *(p.name for p in programs))
        elif not current:
            self.gateway.prepare(state)
            self.supervisor.replace(self.gateway.name, programs)
            started = (self.gateway.name,)
        if not wait_for(self.gateway.ready, 15.0):
            raise ServingError(f"the gateway does not start; {self._files.log_tail(self.gateway.name)}")
        self.gateway.publish(state)
        if alive:
            started += self.supervisor.apply(programs)  # after the routes: a removed engine no longer has any
            for name in moved:
                if name not in started:  # it runs with another port or key, unknown since the state was lost
                    self.supervisor.replace(name, programs)
                    started += (name,)
        names = {replica.name for replica in state.replicas}
        for gone in before - names:
            shutil.rmtree(self._files.replicas / gone, ignore_errors=True)
        self.gateway.rotate_log()
        self._files.drop_old_logs({self.gateway.name, self.gateway.access_log.stem, "supervisord", *names})
        return tuple(name for name in started if name not in names - before)

    def publish(self) -> None:
        """Applies changed API keys to a running gateway; one that starts later reads them then."""
        if self.gateway.ready():
            self.gateway.publish(self._files.read())

    def supervised(self) -> bool:
        """Whether the supervisor answers, so that a process that dies would be restarted."""
        try:
            return self.supervisor.alive()
        except SupervisorError:
            return False

    def await_healthy(self, name: str, timeout_s: float, on_wait: Callable[[str], None]) -> None:
        """Blocks until an engine is healthy; needs no lock.

        Raises:
            ServingError: it exited FAILED_STARTS times, was removed, or took too long; the message has the end of its
                log.
        """
        began = time.monotonic()
        pids: set[int] = set()
        said = 0.0
        while True:
            replica = next((r for r in self._files.read().replicas if r.name == name), None)
            try:
                process = self.supervisor.processes().get(name)
            except SupervisorError:
                process = None  # it is slow to answer; `timeout_s` limits how often it is asked
            pid = process.pid if process else 0
            pids |= {pid} - {0}
            if replica and pid and healthy(replica) and ports.listens(pid, replica.spec.port):
                return
            waited = time.monotonic() - began
            if replica is None or (process and len(pids - {pid}) >= FAILED_STARTS):
                raise ServingError(f"the engine {name} does not start; {self._files.log_tail(name)}")
            if waited > timeout_s:
                raise ServingError(
                    f"the engine {name} is not healthy after {waited:.0f} s; {self._files.log_tail(name)}"
                )
            if waited - said >= 2:
                said = waited
                on_wait(f"waiting for {name} to become healthy ({waited:.0f} s)")
            time.sleep(0.1)

    def port_problem(self) -> str | None:
        """Why the gateway could not start now: another process has its port. None if it can, or runs already."""
        if self.supervisor.runs(str(self.gateway.configuration)):
            return None
        return self._port_problem()

    def _port_problem(self) -> str | None:
        host, port = self._settings.host, self._settings.port
        if ports.is_free(host, port):
            return None
        other = ports.free_port(host, port + 1, ())
        return (
            f"port {port} on {host} is in use by {ports.holder(port)}, so the gateway cannot start; end that process, "
            f"or set another port in the settings file (LLMOPS_SETTINGS), such as `serving: {{port: {other}}}`"
        )

    def _require_port(self) -> None:
        if problem := self._port_problem():
            raise ServingError(problem)

    def _with_free_ports(self, state: State) -> State:
        """The state with a new port for every stopped engine whose port is in use; it reads the port when it starts."""
        processes = self.supervisor.processes()
        idle = [r for r in state.replicas if r.name not in processes or processes[r.name].state in ("BACKOFF", "FATAL")]
        for replica in idle:
            if not ports.is_free(replica.spec.host, replica.spec.port):
                port = ports.free_port(replica.spec.host, replica.spec.port, self.taken_ports(state))
                spec = replica.spec.model_copy(update={"port": port})
                state = state.having(replica.model_copy(update={"spec": spec}))
        return state

    def taken_ports(self, state: State) -> set[int]:
        return {self._settings.port, *(r.spec.port for r in state.replicas)}

    def _folder(self, replica: Replica) -> Path:
        return self._files.replicas / replica.name

    def _write_spec(self, replica: Replica) -> bool:
        """Writes the engine's specification; returns whether an engine that runs already has another port or key."""
        before = self._files.spec(replica.name)
        self._folder(replica).mkdir(exist_ok=True)
        write_if_changed(self._folder(replica) / "spec.json", replica.spec.model_dump_json())
        return before is None or (before.port, before.api_key) != (replica.spec.port, replica.spec.api_key)

    def _program(self, replica: Replica) -> Program:
        folder = self._folder(replica)
        arguments = ("--spec", str(folder / "spec.json"), "--output", str(folder))
        return Program(name=replica.name, command=(*self._engine, *arguments))


def healthy(replica: Replica) -> bool:
    """Whether the engine's own health check succeeds, bypassing the gateway."""
    connection = http.client.HTTPConnection(replica.spec.host, replica.spec.port, timeout=2.0)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
