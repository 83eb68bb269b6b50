"""Serving on this machine: endpoints that outlive the run that deployed them.

One engine process per release and environment with an Envoy in front, all under a supervisor. Callers decide the
traffic split; this module applies it, idempotently. It implements `resources.serving.interface.Serving`.
"""

import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from llmops_assets.config.serving import ServingSettings
from llmops_assets.domain.records import Release
from llmops_assets.machine import ports
from llmops_assets.machine.supervisor import RPC_TIMEOUT_S
from llmops_assets.programs.runtime.specs import ServeSpec
from resources.serving.interface import CANDIDATE_HEADER, Endpoint, Serving, ServingError, Traffic, UserTraffic
from resources.serving.local.access import ApiKey
from resources.serving.local.access_log import AccessLogReader
from resources.serving.local.envoy_config import OWN_TRAFFIC, integer_weights
from resources.serving.local.reconciler import ENGINE, Reconciler, as_serving_errors, healthy
from resources.serving.local.state import Replica, State, StateFiles, endpoint_key

WILDCARDS = ("0.0.0.0", "::", "")


class LocalServing(Serving):
    """Serving on this machine.

    Args:
        home: the folder of all state; this class uses `<home>/serving`.
        start_timeout_s: how long an engine may take to become healthy; None: as in the settings.
        engine: command of the engine program, which takes --spec and --output.
        answer_timeout_s: how long the supervisor may take to answer.
    """

    def __init__(
        self,
        home: Path,
        settings: ServingSettings,
        start_timeout_s: float | None = None,
        engine: tuple[str, ...] = ENGINE,
        answer_timeout_s: float = RPC_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._start_timeout_s = settings.start_timeout if start_timeout_s is None else start_timeout_s
        self._files = StateFiles(home)
        self._machine = Reconciler(self._files, settings, engine, answer_timeout_s)

    def base_url(self, project: str, environment: str) -> str:
        host = "127.0.0.1" if self._settings.host in WILDCARDS else self._settings.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self._settings.port}/{endpoint_key(project, environment)}/v1"

    def candidate_headers(self, release_digest: str) -> dict[str, str]:
        return {CANDIDATE_HEADER: self._files.access.token(release_digest)}

    def own_headers(self) -> dict[str, str]:
        return {CANDIDATE_HEADER: self._files.access.token(OWN_TRAFFIC)}

    def api_keys(self) -> tuple[ApiKey, ...]:
        return self._files.access.keys()

    def add_api_key(self, client: str, project: str | None) -> tuple[ApiKey, str]:
        """Issues an API key, valid at once; returns it with its text, which is not stored."""
        with self._files.locked():
            made = self._files.access.add(client, project)
            self._machine.publish()
        return made

    def revoke_api_keys(self, client: str, id: str | None = None) -> tuple[ApiKey, ...]:
        """Revokes a client's keys, or the one with this id, at once; returns them."""
        with self._files.locked():
            gone = self._files.access.revoke(client, id)
            self._machine.publish()
        return gone

    def deploy(
        self,
        project: str,
        environment: str,
        release: Release,
        model_file: Path,
        on_wait: Callable[[str], None] | None = None,
        sha256: str = "",
    ) -> None:
        if not model_file.is_file():
            raise ServingError(f"{model_file}: no such file; the release's weights must exist before it is deployed")
        with self._files.locked():
            state = self._files.read()
            known = state.replica(project, environment, release.digest)
            replica = known or self._new_replica(state, project, environment, release)
            spec = replica.spec.model_copy(update={"model": str(model_file.absolute()), "sha256": sha256})
            replica = replica.model_copy(update={"spec": spec, "draining": False})
            self._machine.to(state.having(replica))
        try:
            self._machine.await_healthy(replica.name, self._start_timeout_s, on_wait or (lambda message: None))
        except ServingError:
            with self._files.locked():
                state = self._files.read()
                if known is None and not state.weight(replica):
                    self._machine.to(state.without(replica))
            raise

    def route(self, project: str, environment: str, weights: Mapping[str, float]) -> None:
        shares = {release: float(weight) for release, weight in weights.items() if weight}
        if any(w < 0 for w in shares.values()) or (weights and abs(sum(shares.values()) - 1) > 1e-6):
            raise ServingError(f"the weights {dict(weights)} must not be negative and must sum to 1")
        shares = {release: w for release, w in shares.items() if integer_weights(shares)[release]}
        with self._files.locked():
            state = self._files.read()
            for release in shares:
                replica = state.replica(project, environment, release)
                if replica is None:
                    raise ServingError(f"{release} is not deployed to {project}/{environment}: deploy it first")
                state = state.having(replica.model_copy(update={"draining": False}))
            self._machine.to(state.routed(endpoint_key(project, environment), shares))

    def retire(self, project: str, environment: str, release_digest: str, drain_s: float) -> None:
        with self._files.locked():
            state = self._files.read()
            replica = state.replica(project, environment, release_digest)
            if replica is None:
                return
            if weight := state.weight(replica):
                raise ServingError(f"{replica.name} has {weight:.0%} of the traffic: route it to another release first")
            self._machine.to(state.having(replica.model_copy(update={"draining": True})))
        deadline = time.monotonic() + drain_s
        quiet = 0
        # Two idle checks: a request may have been on its way to the engine when the routes changed.
        while quiet < 2 and time.monotonic() < deadline:
            time.sleep(min(0.2, drain_s))
            with suppress(ServingError):  # a restarting gateway has no counters; keep waiting
                quiet = quiet + 1 if self.traffic(project, environment, release_digest).active == 0 else 0
        with self._files.locked():
            state = self._files.read()
            replica = state.replica(project, environment, release_digest)
            if replica and replica.draining:  # else it was deployed again meanwhile
                self._machine.to(state.without(replica))

    def weights(self, project: str, environment: str) -> dict[str, float]:
        return dict(self._files.read().weights.get(endpoint_key(project, environment), {}))

    def deployed(self, project: str, environment: str) -> tuple[str, ...]:
        key = endpoint_key(project, environment)
        return tuple(r.release for r in self._files.read().replicas if r.key == key)

    def endpoints(self, project: str | None = None) -> list[Endpoint]:
        state = self._files.read()
        replicas = [r for r in state.replicas if project in (None, r.project)]
        fit = {r.name for r in replicas if healthy(r)}
        reachable, supervised = self._machine.gateway.ready(), self._machine.supervised()
        found = []
        for key in sorted({r.key for r in replicas}):
            ordered = sorted((r for r in replicas if r.key == key), key=state.weight, reverse=True)
            sharing = [r.name in fit for r in ordered if state.weight(r)]
            for position, replica in enumerate(ordered):
                status: Literal["serving", "degraded", "down", "candidate"]
                if position or not sharing:
                    status = "candidate" if reachable and replica.name in fit else "down"
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
        count = self._machine.gateway.counters(replica) if replica else {}
        return Traffic(
            requests=count.get("upstream_rq_completed", 0),
            errors=count.get("upstream_rq_5xx", 0),
            broken=count.get("upstream_cx_destroy_remote_with_active_rq", 0),
            active=count.get("upstream_rq_active", 0) + count.get("upstream_rq_pending_active", 0),
        )

    @as_serving_errors()
    def port_problem(self) -> str | None:
        return self._machine.port_problem()

    def watch_users(self, project: str, environment: str, since: float | None = None) -> UserTraffic:
        return AccessLogReader(self._machine.gateway.access_log, endpoint_key(project, environment), since)

    def stopped(self) -> bool:
        return self._files.read().stopped

    def ensure_running(self) -> tuple[str, ...]:
        with self._files.locked():
            return self._machine.to(self._files.read())

    @as_serving_errors()
    def down(self, forget: bool = False) -> None:
        if not self._files.folder.is_dir():
            return
        with self._files.locked():
            with suppress(ServingError):  # keep an unreadable state file for inspection
                self._files.write(State() if forget else self._files.read(), stopped=True)
            self._machine.supervisor.stop()
            self._files.drop_sockets()
            if forget:
                shutil.rmtree(self._files.replicas)

    def _new_replica(self, state: State, project: str, environment: str, release: Release) -> Replica:
        # Different homes start at different ports, so that two concurrent starts do not choose the same one.
        first = 10_000 + zlib.crc32(str(self._files.folder).encode()) % 20_000
        taken = self._machine.taken_ports(state)
        spec = ServeSpec(
            engine=release.engine,
            model="",
            alias=project,
            chat_template=release.chat_template,
            port=0,
            serving=release.serving,
            sampling=release.sampling,
            api_key=secrets.token_hex(32),
        )
        replica = Replica(project=project, environment=environment, release=release.digest, spec=spec)
        # If only the state was lost, the engine runs: with the port and the key of its specification.
        known = self._files.spec(replica.name)
        if known is not None and known.port not in taken:
            own = {"port": known.port, "api_key": known.api_key}
        else:
            own = {"port": ports.free_port("127.0.0.1", first, taken)}
        return replica.model_copy(update={"spec": spec.model_copy(update=own)})
