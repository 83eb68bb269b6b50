"""Builds Envoy's configuration from the serving state. Pure: `envoy` handles files and sockets.

One listener; `/<project>/<environment>/v1/...` is routed to the environment's engines by weight, or to one release if
the request has that release's token in the header `x-llmops-candidate`. What the gateway refuses by itself, before an
engine sees it, is in `gateway_filters`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_assets.config.serving import ServingSettings
from llmops_assets.domain.models import Frozen
from resources.serving.interface import CANDIDATE_HEADER, RELEASE_HEADER
from resources.serving.local.access import ApiKey
from resources.serving.local.access_log import FORMAT, NAMED, OURS, USERS
from resources.serving.local.gateway_filters import (
    NO_BROWSERS,
    body_limit,
    cors_policy,
    http_filters,
    keys_required,
    local_replies,
)
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


OWN_TRAFFIC = "own traffic"
"""The purpose of the token that routes our own request like a user's."""


class Rules(Frozen):
    """What routes depend on besides the state."""

    settings: ServingSettings
    tokens: dict[str, str]
    """Release, or OWN_TRAFFIC → the token that addresses it."""
    keys: tuple[ApiKey, ...] = ()


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


def routes(state: State, rules: Rules) -> dict[str, Any]:
    """The routes of every environment, most specific first."""
    settings = rules.settings
    keys = sorted({*state.weights, *(r.key for r in state.replicas)})
    found: list[dict[str, Any]] = []
    for key in keys:
        match = {"prefix": f"/{key}/v1/"}
        here = [r for r in state.replicas if r.key == key and not r.draining]
        for replica in here:
            route = {"cluster": cluster_name(replica)} | _forwarding(settings)
            addressed = _with_token(match, rules.tokens[replica.release])
            found.append(
                {"name": NAMED, "match": addressed, "route": route}
                | _only_for(replica)
                | {"typed_per_filter_config": body_limit(settings, [replica])}
            )
        weights = integer_weights(state.weights.get(key, {}))
        serving = [r for r in here if weights.get(r.release)]
        shares = [{"name": cluster_name(r), "weight": weights[r.release], **_only_for(r)} for r in serving]
        if shares:
            shared: dict[str, Any] = {
                "route": {"weighted_clusters": {"clusters": shares}} | _forwarding(settings),
                "typed_per_filter_config": body_limit(settings, serving),
            }
        else:
            shared = _answer(503, f"/{key} serves no release yet: none has been promoted.")
        found.append({"name": OURS, "match": _with_token(match, rules.tokens[OWN_TRAFFIC]), **shared})
        unknown = f"No release of /{key} has this token: omit the header {CANDIDATE_HEADER}."
        another = match | {"headers": [{"name": CANDIDATE_HEADER, "present_match": True}]}
        found.append({"match": another, **_answer(404, unknown)})
        public = {"name": USERS, "match": match, **shared}
        if settings.require_api_key:
            valid = [k for k in rules.keys if k.project in (None, key.partition("/")[0])]
            lua, per_filter = keys_required(valid)
            public |= {"metadata": lua}
            public["typed_per_filter_config"] = public.get("typed_per_filter_config", {}) | per_filter
        found.append(public)
    known = ", ".join(f"/{key}/v1/" for key in keys) or "none yet"
    # Without a key nobody is told what is served here.
    lost = "" if settings.require_api_key else f" Endpoints: {known}."
    found.append({"match": {"prefix": "/"}, **_answer(404, f"No endpoint at this path.{lost}")})
    host: dict[str, Any] = {"name": "endpoints", "domains": ["*"], "routes": found}
    return {
        "@type": f"{_TYPE}config.route.v3.RouteConfiguration",
        "name": "endpoints",
        "max_direct_response_body_size_bytes": 1 << 20,
        "response_headers_to_remove": list(NO_BROWSERS),
        "request_headers_to_remove": [CANDIDATE_HEADER],
        "virtual_hosts": [host | cors_policy(settings.cors_origins)],
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

    manager = {
        "@type": f"{_TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "rds": {"route_config_name": "endpoints", "config_source": file("rds.json")},
        # An answer may take as long as it wants, as long as something is said; a request may not.
        "stream_idle_timeout": f"{settings.idle_timeout:g}s",
        "request_timeout": f"{settings.receive_timeout:g}s",
        "request_headers_timeout": f"{settings.receive_timeout:g}s",
        "max_request_headers_kb": settings.max_headers,
        "common_http_protocol_options": {"idle_timeout": "300s", "max_headers_count": 100},
        "http2_protocol_options": {"max_concurrent_streams": 100},
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
        "local_reply_config": local_replies(settings),
        "http_filters": http_filters(settings),
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


def _forwarding(settings: ServingSettings) -> dict[str, Any]:
    return {
        "prefix_rewrite": "/v1/",
        "timeout": "0s",
        "idle_timeout": f"{settings.idle_timeout:g}s",
        "retry_policy": _RETRY,
    }


def _with_token(match: Mapping[str, Any], token: str) -> dict[str, Any]:
    return {**match, "headers": [{"name": CANDIDATE_HEADER, "string_match": {"exact": token}}]}


def _only_for(replica: Replica) -> dict[str, Any]:
    """The headers of a replica's requests and answers: its own key instead of the client's, and its release."""
    found: dict[str, Any] = {"response_headers_to_add": [_header(RELEASE_HEADER, replica.release)]}
    if replica.spec.api_key:
        found["request_headers_to_add"] = [_header("authorization", f"Bearer {replica.spec.api_key}")]
    else:
        found["request_headers_to_remove"] = ["authorization"]
    return found


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _answer(status: int, message: str) -> dict[str, Any]:
    """What a route does that the gateway answers itself; the listener formats the answer as JSON."""
    return {"direct_response": {"status": status, "body": {"inline_string": message}}}
