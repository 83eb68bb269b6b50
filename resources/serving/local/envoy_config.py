"""Builds Envoy's configuration from the serving state. Pure: `envoy` handles files and sockets.

One listener; `/<project>/<environment>/v1/...` is routed to the environment's engines by weight, or to one release if
the request has the header `x-llmops-release`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_assets.config.settings import ServingSettings
from resources.serving.interface import RELEASE_HEADER
from resources.serving.local.access_log import FORMAT, NAMED, USERS
from resources.serving.local.state import Replica, State

TOTAL_WEIGHT = 1000
_TYPE = "type.googleapis.com/envoy."

# A request to an engine that is restarting waits for it (about 10 s in all) instead of failing: in all these cases the
# engine has not processed it, and llama.cpp answers 503 only while it loads the model or has no slot.
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
            # llama.cpp's server randomly closes kept-alive connections after a streamed answer: 18 of 1,051 streams
            # were lost with connection reuse, 0 of 2,048 without.
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
                    "name": NAMED,
                    "match": match | {"headers": [named]},
                    "route": {"cluster": cluster_name(replica)} | _forwarding(),
                    "response_headers_to_add": _answered_by(replica),
                }
            )
        unknown = f"This release is not deployed at /{key}: omit the header {RELEASE_HEADER}, or use one of: "
        another = match | {"headers": [{"name": RELEASE_HEADER, "present_match": True}]}
        found.append(_answer(another, 404, unknown + (", ".join(r.release for r in here) or "none")))
        weights = integer_weights(state.weights.get(key, {}))
        shares = [
            {"name": cluster_name(r), "weight": weights[r.release], "response_headers_to_add": _answered_by(r)}
            for r in here
            if weights.get(r.release)
        ]
        if shares:
            found.append(
                {"name": USERS, "match": match, "route": {"weighted_clusters": {"clusters": shares}} | _forwarding()}
            )
        else:
            found.append(_answer(match, 503, f"/{key} serves no release yet: none has been promoted."))
    known = ", ".join(f"/{key}/v1/" for key in keys) or "none yet"
    found.append(_answer({"prefix": "/"}, 404, f"No endpoint at this path. Endpoints: {known}."))
    return {
        "@type": f"{_TYPE}config.route.v3.RouteConfiguration",
        "name": "endpoints",
        "max_direct_response_body_size_bytes": 1 << 20,
        "virtual_hosts": [{"name": "endpoints", "domains": ["*"], "routes": found}],
    }


def integer_weights(weights: Mapping[str, float]) -> dict[str, int]:
    """Converts shares that sum to 1 to integers that sum to TOTAL_WEIGHT, by the largest remainder."""
    exact = {name: share * TOTAL_WEIGHT for name, share in weights.items()}
    rounded = {name: int(value) for name, value in exact.items()}
    missing = TOTAL_WEIGHT - sum(rounded.values())
    for name in sorted(exact, key=lambda n: rounded[n] - exact[n])[: missing if weights else 0]:
        rounded[name] += 1
    return rounded


def bootstrap(settings: ServingSettings, admin: Path, watched: Path, access_log: Path) -> dict[str, Any]:
    """Envoy's start configuration: the listener, and the paths of the watched files and of the access log."""

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
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": f"{_TYPE}extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(access_log),
                    "log_format": {"json_format": dict(FORMAT)},
                },
            }
        ],
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
                    # Otherwise a second gateway could listen on the same port and get half of the requests.
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


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _forwarding() -> dict[str, Any]:
    return {"prefix_rewrite": "/v1/", "timeout": "0s", "idle_timeout": "0s", "retry_policy": _RETRY}


def _answered_by(replica: Replica) -> list[dict[str, Any]]:
    header = {"key": RELEASE_HEADER, "value": replica.release}
    return [{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]


def _answer(match: Mapping[str, Any], status: int, message: str) -> dict[str, Any]:
    """A route that the gateway answers itself; the listener formats the answer as JSON."""
    return {"match": match, "direct_response": {"status": status, "body": {"inline_string": message}}}
