"""What Envoy refuses before a request reaches an engine: large bodies, missing API keys, foreign web pages. Pure."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from llmops_assets.config.serving import ServingSettings
from llmops_assets.programs.engines.context import CONTEXT
from resources.serving.local.access import ApiKey
from resources.serving.local.state import Replica

_TYPE = "type.googleapis.com/envoy.extensions.filters.http."
_LUA, _RBAC, _CORS, _BUFFER = (f"envoy.filters.http.{name}" for name in ("lua", "rbac", "cors", "buffer"))

ALWAYS_FITS = 64 << 10
"""Bytes of a request besides its prompt: JSON, parameters, schemas."""
BYTES_PER_TOKEN = 32
"""English text has 4 to 5, a character that JSON escapes 6 or 12. A request beyond it does not fit the context. Engines
tokenize before they find that out: 20 MB took llama.cpp 31 s."""

NO_BROWSERS = (
    "access-control-allow-origin", "access-control-allow-credentials", "access-control-allow-methods",
    "access-control-allow-headers", "access-control-expose-headers", "access-control-max-age",
)  # fmt: skip
"""Headers by which llama.cpp's server allows every web page everything; the gateway alone decides."""


def http_filters(settings: ServingSettings) -> list[dict[str, Any]]:
    """The filters of every request, in order. A preflight request of a browser has no key, so CORS is first."""
    admitting = [
        _filter(_LUA, "lua.v3.Lua", default_source_code={"inline_string": _script()}),
        _filter(_RBAC, "rbac.v3.RBAC"),
    ]
    return [
        _filter(_CORS, "cors.v3.Cors"),
        *(admitting if settings.require_api_key else ()),
        _filter(_BUFFER, "buffer.v3.Buffer", max_request_bytes=settings.max_body),
        _filter("envoy.filters.http.router", "router.v3.Router"),
    ]


def body_limit(settings: ServingSettings, replicas: Sequence[Replica]) -> dict[str, Any]:
    """The limit of a route's requests: what fits the largest context of these replicas."""
    largest = max(int(replica.spec.serving.get("context_length") or CONTEXT) for replica in replicas)
    limit = min(settings.max_body, ALWAYS_FITS + BYTES_PER_TOKEN * largest)
    return {_BUFFER: {"@type": f"{_TYPE}buffer.v3.BufferPerRoute", "buffer": {"max_request_bytes": limit}}}


def cors_policy(origins: Sequence[str]) -> dict[str, Any]:
    """A virtual host's policy for web pages of other origins; empty: browsers refuse them."""
    if not origins:
        return {}
    matches = [{"safe_regex": {"regex": ".*"}} if o == "*" else {"exact": o} for o in origins]
    policy = {
        "@type": f"{_TYPE}cors.v3.CorsPolicy",
        "allow_origin_string_match": matches,
        "allow_methods": "GET, POST",
        "allow_headers": "authorization, content-type, *",
        "max_age": "600",
    }
    return {"typed_per_filter_config": {_CORS: policy}}


def keys_required(keys: Sequence[ApiKey]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(metadata, per-filter configuration) of a route that only these keys open.

    The script compares a key's hash with the metadata, which changes with the routes, without a restart. Envoy
    continues if a script fails, so the access rule admits only requests that the script has marked.
    """
    marked = {"metadata": {"filter": "llmops", "path": [{"key": "client"}], "value": {"present_match": True}}}
    policy = {"permissions": [{"any": True}], "principals": [marked]}
    rule = {"@type": f"{_TYPE}rbac.v3.RBACPerRoute", "rbac": {"rules": {"policies": {"a client's key": policy}}}}
    lua = {"required": True, **{key.sha256: key.client for key in keys}}
    return {"filter_metadata": {_LUA: lua}}, {_RBAC: rule}


def local_replies(settings: ServingSettings) -> dict[str, Any]:
    """The gateway's own answers, as JSON in the form of OpenAI's errors."""
    too_large = (
        f"The request is larger than this endpoint accepts: at most {settings.max_body} bytes, and what fits the "
        "model's context."
    )
    mappers = [
        _replaced(413, too_large),
        _replaced(408, f"The request was not received within {settings.receive_timeout:g} s."),
        _replaced(431, f"The request headers are larger than {settings.max_headers} KiB."),
    ]
    error = {"message": "%LOCAL_REPLY_BODY%", "type": "gateway_error", "code": "%RESPONSE_CODE%"}
    return {"mappers": mappers, "body_format": {"json_format": {"error": error}}}


def _replaced(status: int, text: str) -> dict[str, Any]:
    comparison = {"op": "EQ", "value": {"default_value": status, "runtime_key": f"llmops.status_{status}"}}
    return {"filter": {"status_code_filter": {"comparison": comparison}}, "body": {"inline_string": text}}


def _filter(name: str, kind: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_TYPE}{kind}", **configuration}}


@cache
def _script() -> str:
    return files("resources.serving.local").joinpath("api_keys.lua").read_text(encoding="utf-8")
