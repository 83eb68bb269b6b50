"""Makes the processes and files of the local serving what the state says, wherever they stand now.

Every change goes this way, so a step that was cut off is completed by whoever comes next. What the state should be is
`serving`'s matter. Callers hold the lock of the state.
"""

import http.client
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmops_assets.config.settings import ServingSettings
from llmops_assets.machine import ports
from llmops_assets.machine.files import write_atomically
from llmops_assets.machine.processes import wait_for
from llmops_assets.machine.supervisor import Program, Supervisor, SupervisorError
from resources.serving.interface import ServingError
from resources.serving.local.envoy import Gateway
from resources.serving.local.state import Replica, State, StateFiles

ENGINE = (sys.executable, "-m", "llmops_assets.programs.serve")
FAILED_STARTS = 2  # an engine that ended this often before it was healthy will not come up by itself


@contextmanager
def as_serving_errors() -> Iterator[None]:
    """The supervisor's errors, as those of serving."""
    try:
        yield
    except SupervisorError as error:
        raise ServingError(str(error)) from error


class Reconciler:
    def __init__(self, files: StateFiles, settings: ServingSettings, engine: tuple[str, ...]) -> None:
        self._files = files
        self._settings = settings
        self._engine = engine
        self.supervisor = Supervisor(files.folder, files.sockets / "supervisor.sock")
        self.gateway = Gateway(files.gateway, files.sockets / "envoy.sock", settings)

    @as_serving_errors()
    def to(self, state: State) -> tuple[str, ...]:
        """Stores the state and brings it about; engines may still be loading when this returns.

        Returns:
            What should have been running and had to be started, by name.

        Raises:
            ServingError: the gateway's port is taken (then nothing has been changed), or something does not start.
        """
        before = {replica.name for replica in self._files.read().replicas}
        current = self.supervisor.runs(str(self.gateway.configuration))
        if not current:
            self._require_port()
        alive = self.supervisor.alive()
        if not alive:
            self.supervisor.stop()  # what a killed supervisor left behind holds the ports
        state = self._with_free_ports(state)
        self._files.write(state)
        for replica in state.replicas:
            self._write_spec(replica)
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
            started += self.supervisor.apply(programs)  # after the routes: an engine that is to go has none any more
        names = {replica.name for replica in state.replicas}
        for gone in before - names:
            shutil.rmtree(self._files.replicas / gone, ignore_errors=True)
        self._files.drop_old_logs({self.gateway.name, "supervisord", *names})
        return tuple(name for name in started if name not in names - before)

    def await_healthy(self, name: str, timeout_s: float, on_wait: Callable[[str], None]) -> None:
        """Returns when an engine can answer; needs no lock.

        Raises:
            ServingError: it ended FAILED_STARTS times, was taken away, or took too long; with the end of its log.
        """
        began = time.monotonic()
        pids: set[int] = set()
        said = 0.0
        while True:
            replica = next((r for r in self._files.read().replicas if r.name == name), None)
            process = self.supervisor.processes().get(name)
            pid = process.pid if process else 0
            pids |= {pid} - {0}
            if replica and pid and healthy(replica) and ports.listens(pid, replica.spec.port):
                return
            waited = time.monotonic() - began
            if replica is None or len(pids - {pid}) >= FAILED_STARTS:
                raise ServingError(f"the engine {name} does not start; {self._files.log_tail(name)}")
            if waited > timeout_s:
                raise ServingError(
                    f"the engine {name} is not healthy after {waited:.0f} s; {self._files.log_tail(name)}"
                )
            if waited - said >= 2:
                said = waited
                on_wait(f"waiting for {name} to become healthy ({waited:.0f} s)")
            time.sleep(0.1)

    def _require_port(self) -> None:
        host, port = self._settings.host, self._settings.port
        if not ports.is_free(host, port):
            raise ServingError(
                f"port {port} on {host} is taken by {ports.holder(port)}, so the gateway cannot listen there; end that "
                "process, or give serving.port another value in the settings file (LLMOPS_SETTINGS)"
            )

    def _with_free_ports(self, state: State) -> State:
        """With another port for every engine that does not run and whose own was taken; it reads it when it starts."""
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

    def _write_spec(self, replica: Replica) -> None:
        self._folder(replica).mkdir(exist_ok=True)
        write_atomically(self._folder(replica) / "spec.json", replica.spec.model_dump_json())

    def _program(self, replica: Replica) -> Program:
        folder = self._folder(replica)
        arguments = ("--spec", str(folder / "spec.json"), "--output", str(folder))
        return Program(name=replica.name, command=(*self._engine, *arguments))


def healthy(replica: Replica) -> bool:
    """Whether the engine itself says that it can answer; asked past the gateway."""
    connection = http.client.HTTPConnection(replica.spec.host, replica.spec.port, timeout=2.0)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
