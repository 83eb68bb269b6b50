"""Endpoints that outlive the run that deployed them: the interface of serving, and its local implementation.

The local one runs a llama.cpp process per release and environment and an Envoy in front, both under a supervisor. How
traffic should move is decided elsewhere; this module moves it, and converges however often it is asked.
"""

import http.client
import json
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from llmops_assets.domain.base import Frozen
from llmops_assets.domain.records import Release
from llmops_assets.programs.specs import ServeSpec
from llmops_assets.settings import ServingSettings
from resources import ports
from resources.gateway import RELEASE_HEADER, Gateway, integer_weights
from resources.serving_state import Replica, ServingError, State, StateFiles, endpoint_key, write_atomically
from resources.supervision import Program, Supervisor, wait_for

__all__ = ["RELEASE_HEADER", "Endpoint", "LocalServing", "Serving", "ServingError", "Traffic"]

ENGINE = (sys.executable, "-m", "llmops_assets.programs.serve")
STARTS = 3  # an engine that ended this often before it was healthy will not come up by itself
WILDCARDS = ("0.0.0.0", "::", "")


class Endpoint(Frozen):
    """A release that can be reached, and how it is."""

    project: str
    environment: str
    base_url: str
    model: str
    release: str
    status: Literal["serving", "degraded", "down", "candidate"] = Field(
        description="candidate: healthy, but it has a smaller share of the traffic than another, or none."
    )


class Traffic(Frozen):
    """What the gateway counted for one release since the gateway started."""

    requests: int = Field(description="Requests that were answered, by the engine or for it.")
    errors: int = Field(description="Status 5xx.")
    broken: int = Field(description="Answers that the engine broke off.")
    active: int = Field(description="Under way now.")


class Serving(Protocol):
    """Endpoints of all projects. Every call converges: made twice, or cut off and made again, it does no harm."""

    def deploy(
        self,
        project: str,
        environment: str,
        release: Release,
        model_file: Path,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        """Has a healthy engine for this release; sends it no traffic. Blocks until it is healthy.

        Raises:
            ServingError: it cannot start; with the end of its log.
        """

    def route(self, project: str, environment: str, weights: Mapping[str, float]) -> None:
        """Shares an environment's traffic among deployed releases, at once and as a whole; {} ends its traffic.

        Raises:
            ServingError: the shares do not sum to 1, a release is not deployed, or the gateway did not take them.
        """

    def retire(self, project: str, environment: str, release_digest: str, drain_s: float) -> None:
        """Ends a release without traffic once its last request is answered, or `drain_s` seconds have passed.

        Raises:
            ServingError: it has traffic.
        """

    def weights(self, project: str, environment: str) -> dict[str, float]:
        """The share of each release that has traffic."""

    def deployed(self, project: str, environment: str) -> tuple[str, ...]:
        """The digests of all releases that have an engine, oldest first."""

    def endpoints(self, project: str | None = None) -> list[Endpoint]:
        """Every release that is deployed; the main one of each environment first."""

    def base_url(self, project: str, environment: str) -> str:
        """The environment's stable address, ending in /v1."""

    def candidate_headers(self, release_digest: str) -> dict[str, str]:
        """Headers with which a request reaches exactly this release, whatever the weights."""

    def traffic(self, project: str, environment: str, release_digest: str) -> Traffic:
        """What the gateway counted for this release."""

    def stopped(self) -> bool:
        """Whether serving was ended on purpose and nothing was deployed since."""

    def ensure_running(self) -> tuple[str, ...]:
        """Starts whatever should run and does not; says what that was."""

    def down(self, forget: bool = False) -> None:
        """Ends every process; `forget` also drops what was deployed, so that nothing can come back."""


class LocalServing:
    """Serving on this machine.

    Args:
        home: the folder of all state; this one keeps to `<home>/serving`.
        start_timeout_s: how long an engine may take until it is healthy.
        engine: command of the engine program; takes --spec and --output.
    """

    def __init__(
        self,
        home: Path,
        settings: ServingSettings,
        start_timeout_s: float = 120.0,
        engine: tuple[str, ...] = ENGINE,
    ) -> None:
        self._settings = settings
        self._start_timeout_s = start_timeout_s
        self._engine = engine
        self._files = StateFiles(home)
        self._supervisor = Supervisor(self._files.folder, self._files.sockets / "supervisor.sock")
        self._gateway = Gateway(self._files.gateway, self._files.sockets / "envoy.sock", settings)

    def base_url(self, project: str, environment: str) -> str:
        host = "127.0.0.1" if self._settings.host in WILDCARDS else self._settings.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self._settings.port}/{endpoint_key(project, environment)}/v1"

    def candidate_headers(self, release_digest: str) -> dict[str, str]:
        return {RELEASE_HEADER: release_digest}

    def deploy(
        self,
        project: str,
        environment: str,
        release: Release,
        model_file: Path,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        if not model_file.is_file():
            raise ServingError(f"{model_file}: no such file; the release's weights must be here before it is deployed")
        with self._files.locked() as state:
            known = state.replica(project, environment, release.digest)
            replica = known or self._replica(state, project, environment, release)
            spec = replica.spec.model_copy(update={"model": str(model_file.absolute())})
            replica = replica.model_copy(update={"spec": spec, "draining": False})
            (self._folder(replica) / "error.json").unlink(missing_ok=True)
            self._converge(state.having(replica))
        try:
            self._await_healthy(replica, on_wait or (lambda message: None))
        except ServingError:
            with self._files.locked() as state:
                if known is None and not state.weight(replica):
                    self._converge(state.without(replica))
            raise

    def route(self, project: str, environment: str, weights: Mapping[str, float]) -> None:
        shares = {release: float(weight) for release, weight in weights.items() if weight}
        if any(w < 0 for w in shares.values()) or (weights and abs(sum(shares.values()) - 1) > 1e-6):
            raise ServingError(f"the weights {dict(weights)} are not shares that sum to 1")
        shares = {release: w for release, w in shares.items() if integer_weights(shares)[release]}
        with self._files.locked() as state:
            for release in shares:
                if not state.replica(project, environment, release):
                    raise ServingError(f"{release} is not deployed to {project}/{environment}: deploy it first")
            replicas = tuple(
                r.model_copy(update={"draining": False}) if r.release in shares else r for r in state.replicas
            )
            routed = state.routed(endpoint_key(project, environment), shares)
            self._converge(routed.model_copy(update={"replicas": replicas}))

    def retire(self, project: str, environment: str, release_digest: str, drain_s: float) -> None:
        with self._files.locked() as state:
            replica = state.replica(project, environment, release_digest)
            if replica is None:
                return
            if weight := state.weight(replica):
                raise ServingError(f"{replica.name} has {weight:.0%} of the traffic: route it elsewhere first")
            replica = replica.model_copy(update={"draining": True})
            self._converge(state.having(replica))
        deadline = time.monotonic() + drain_s
        quiet = 0
        # Two quiet looks: a request may have been on its way to the engine when the routes changed.
        while quiet < 2 and time.monotonic() < deadline:
            time.sleep(min(0.2, drain_s))
            quiet = quiet + 1 if self.traffic(project, environment, release_digest).active == 0 else 0
        with self._files.locked() as state:
            if state.replica(project, environment, release_digest) == replica:  # nobody wanted it back meanwhile
                self._converge(state.without(replica))

    def weights(self, project: str, environment: str) -> dict[str, float]:
        return dict(self._files.read().weights.get(endpoint_key(project, environment), {}))

    def deployed(self, project: str, environment: str) -> tuple[str, ...]:
        key = endpoint_key(project, environment)
        return tuple(r.release for r in self._files.read().replicas if r.key == key)

    def endpoints(self, project: str | None = None) -> list[Endpoint]:
        state = self._files.read()
        replicas = [r for r in state.replicas if project in (None, r.project)]
        healthy = {r.name for r in replicas if _healthy(r)}
        reachable, supervised = self._gateway.ready(), self._supervisor.alive()
        found = []
        for key in sorted({r.key for r in replicas}):
            ordered = sorted((r for r in replicas if r.key == key), key=state.weight, reverse=True)
            sharing = [r.name in healthy for r in ordered if state.weight(r)]
            for position, replica in enumerate(ordered):
                status: Literal["serving", "degraded", "down", "candidate"]
                if position or not sharing:
                    status = "candidate" if reachable and replica.name in healthy else "down"
                elif not reachable or not any(sharing):
                    status = "down"
                else:
                    status = "serving" if supervised and all(sharing) else "degraded"
                found.append(
                    Endpoint(
                        project=replica.project,
                        environment=replica.environment,
                        base_url=self.base_url(replica.project, replica.environment),
                        model=replica.spec.alias,
                        release=replica.release,
                        status=status,
                    )
                )
        return found

    def traffic(self, project: str, environment: str, release_digest: str) -> Traffic:
        replica = self._files.read().replica(project, environment, release_digest)
        count = self._gateway.counters(replica) if replica else {}
        return Traffic(
            requests=count.get("upstream_rq_completed", 0),
            errors=count.get("upstream_rq_5xx", 0),
            broken=count.get("upstream_cx_destroy_remote_with_active_rq", 0),
            active=count.get("upstream_rq_active", 0) + count.get("upstream_rq_pending_active", 0),
        )

    def stopped(self) -> bool:
        return self._files.read().stopped

    def ensure_running(self) -> tuple[str, ...]:
        with self._files.locked() as state:
            return self._converge(state)

    def down(self, forget: bool = False) -> None:
        if not self._files.folder.is_dir():
            return
        with self._files.locked() as state:
            self._files.write(State(stopped=True) if forget else state.model_copy(update={"stopped": True}))
            self._supervisor.stop()
            shutil.rmtree(self._files.sockets)
            if forget:
                shutil.rmtree(self._files.replicas)

    def _replica(self, state: State, project: str, environment: str, release: Release) -> Replica:
        taken = {self._settings.port, *(r.spec.port for r in state.replicas)}
        # Different homes begin at different places, so that two that start at once do not choose the same port.
        first = 10_000 + zlib.crc32(str(self._files.folder).encode()) % 20_000
        spec = ServeSpec(
            model="",
            alias=project,
            chat_template=release.chat_template,
            port=ports.free_port("127.0.0.1", first, taken),
            serving=release.serving,
        )
        return Replica(project=project, environment=environment, release=release.digest, spec=spec)

    def _converge(self, state: State) -> tuple[str, ...]:
        """Makes files and processes what the state says, and stores it; the caller holds the lock.

        Returns:
            What had to be started, in words.
        """
        before = self._files.read()
        current = self._gateway_is_current()
        if not current and not ports.is_free(self._settings.host, self._settings.port):
            port, host = self._settings.port, self._settings.host
            raise ServingError(
                f"port {port} on {host} is taken by {ports.holder(port)}, so the gateway cannot listen there; end that "
                "process, or give serving.port another value in the settings file (LLMOPS_SETTINGS)"
            )
        alive = self._supervisor.alive()
        if not alive:
            self._supervisor.stop()  # what a killed supervisor left behind holds the ports
        processes = self._supervisor.processes()
        idle = [r for r in state.replicas if r.name not in processes or processes[r.name].state in ("BACKOFF", "FATAL")]
        state = self._with_free_ports(state, idle)
        state = state.model_copy(update={"stopped": False})
        self._files.write(state)
        for replica in state.replicas:
            self._write_spec(replica)
        programs = [self._gateway.program(), *(self._program(r) for r in state.replicas)]
        mended: tuple[str, ...] = ()
        if not alive:
            self._gateway.prepare(state)
            self._supervisor.start(programs)
            mended = ("supervisor", *(p.name for p in programs))
        elif not current:
            self._gateway.prepare(state)
            self._supervisor.replace(self._gateway.name, programs)
            mended = (self._gateway.name,)
        self._await_gateway()
        self._gateway.publish(state)
        if alive:
            # After the routes: an engine that is to go has no route any more.
            new = {r.name for r in state.replicas} - {r.name for r in before.replicas}
            mended += tuple(name for name in self._supervisor.apply(programs) if name not in new)
        for replica in before.replicas:
            if all(replica.name != r.name for r in state.replicas):
                shutil.rmtree(self._files.replicas / replica.name, ignore_errors=True)
        return mended

    def _gateway_is_current(self) -> bool:
        """Whether an Envoy of ours runs with these very settings."""
        return self._supervisor.runs(str(self._gateway.configuration))

    def _with_free_ports(self, state: State, idle: Sequence[Replica]) -> State:
        """With another port for every engine whose own was taken while it did not run; it reads it when it starts."""
        for replica in idle:
            if not ports.is_free(replica.spec.host, replica.spec.port):
                taken = {self._settings.port, *(r.spec.port for r in state.replicas)}
                port = ports.free_port(replica.spec.host, replica.spec.port, taken)
                spec = replica.spec.model_copy(update={"port": port})
                state = state.having(replica.model_copy(update={"spec": spec}))
        return state

    def _folder(self, replica: Replica) -> Path:
        return self._files.replicas / replica.name

    def _write_spec(self, replica: Replica) -> None:
        self._folder(replica).mkdir(exist_ok=True)
        write_atomically(self._folder(replica) / "spec.json", replica.spec.model_dump_json())

    def _program(self, replica: Replica) -> Program:
        folder = self._folder(replica)
        return Program(
            name=replica.name, command=(*self._engine, "--spec", str(folder / "spec.json"), "--output", str(folder))
        )

    def _await_gateway(self) -> None:
        if not wait_for(self._gateway.ready, 15.0):
            raise ServingError(f"the gateway does not start; {self._files.log_tail(self._gateway.name)}")

    def _await_healthy(self, replica: Replica, on_wait: Callable[[str], None]) -> None:
        """Raises:
        ServingError: the engine refused its settings, ended STARTS times, or took too long.
        """
        began = time.monotonic()
        error = self._folder(replica) / "error.json"
        pids: set[int] = set()
        said = 0.0
        while True:
            process = self._supervisor.processes().get(replica.name)
            if process and process.pid:
                pids.add(process.pid)
                if _healthy(replica) and ports.listens(process.pid, replica.spec.port):
                    return
            waited = time.monotonic() - began
            if error.is_file():
                why = f"does not start: {_message(error)}"
            elif len(pids) >= STARTS:
                why = f"ended {len(pids) - 1} times while starting"
            elif waited > self._start_timeout_s:
                why = f"is not healthy after {waited:.0f} s"
            else:
                if waited - said >= 2:
                    said = waited
                    on_wait(f"waiting for {replica.name} to become healthy ({waited:.0f} s)")
                time.sleep(0.1)
                continue
            raise ServingError(f"the engine {replica.name} {why}; {self._files.log_tail(replica.name)}")


def _healthy(replica: Replica) -> bool:
    """Whether the engine itself says that it can answer; asked past the gateway."""
    connection = http.client.HTTPConnection(replica.spec.host, replica.spec.port, timeout=2.0)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _message(error: Path) -> str:
    """What a program says of its bad input; whole, if it is not in the usual form."""
    text = error.read_text()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text
