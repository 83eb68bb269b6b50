"""Sends requests to an endpoint like a user: over HTTP, through the gateway.

For smoke tests, rollout probes and health checks. The callers evaluate the answers.
"""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import Field

from llmops_assets.domain.models import Frozen
from llmops_assets.domain.rollout import ProbeResult
from llmops_assets.programs.engines.chat_stream import ChatStream
from resources.serving.interface import RELEASE_HEADER

if TYPE_CHECKING:
    import ssl

    import httpx


class Answer(Frozen):
    ok: bool = Field(description="Status 200 and a complete end.")
    status: int = Field(description="HTTP status; 0: no response.")
    text: str = ""
    latency_s: float = Field(description="From the request to the end of the answer.")
    first_token_s: float | None = None
    tokens: int = Field(default=0, description="As counted by the engine, otherwise the number of stream events.")
    finish_reason: str | None = Field(default=None, description="The engine's finish reason: stop or length.")
    broken: bool = Field(default=False, description="The answer started but is incomplete.")
    release: str | None = Field(default=None, description="Digest of the release that answered.")
    error: str = Field(default="", description="Error message.")

    def sample(self, wanted_tokens: int) -> ProbeResult:
        """The probe result for the rollout: cut if a limit ended the answer before the requested tokens."""
        cut = self.finish_reason == "length" and self.tokens < wanted_tokens
        return ProbeResult(ok=self.ok, empty=not self.text.strip(), cut=cut, latency_s=self.latency_s)


def ask(
    base_url: str,
    model: str,
    text: str,
    *,
    headers: Mapping[str, str] | None = None,
    stream: bool = True,
    timeout: float = 60.0,
    max_tokens: int | None = None,
) -> Answer:
    """Sends one request. Never raises for errors of the endpoint: the answer contains them.

    Args:
        base_url: the endpoint, ending in /v1.
        model: its name there.
        text: the plain user input: the endpoint adds the prompt.
        timeout: seconds for the whole answer.
    """
    with _client(timeout) as client:
        return _ask(client, base_url, model, text, headers or {}, stream, timeout, max_tokens)


def ask_many(
    base_url: str,
    model: str,
    inputs: Sequence[str],
    *,
    concurrency: int = 4,
    headers: Mapping[str, str] | None = None,
    stream: bool = True,
    timeout: float = 60.0,
    max_tokens: int | None = None,
) -> list[Answer]:
    """Sends each input once, several in parallel; returns the answers in the order of the inputs."""
    with _client(timeout) as client, ThreadPoolExecutor(max(1, concurrency)) as pool:
        asked = [
            pool.submit(_ask, client, base_url, model, text, headers or {}, stream, timeout, max_tokens)
            for text in inputs
        ]
        return [answer.result() for answer in asked]


def _client(timeout: float) -> "httpx.Client":
    import httpx

    # A new connection for every request, like separate users; ignores proxies of the environment.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(timeout=timeout, trust_env=False, limits=limits, verify=_certificates())


@cache
def _certificates() -> "ssl.SSLContext":
    """Loaded once: reading them takes 30 ms of CPU time, more than a probe of a local endpoint."""
    import httpx

    return httpx.create_ssl_context(trust_env=False)


def _ask(
    client: "httpx.Client",
    base_url: str,
    model: str,
    text: str,
    headers: Mapping[str, str],
    stream: bool,
    timeout: float,
    max_tokens: int | None,
) -> Answer:
    import httpx

    # No sampling parameters: the answer that a user gets, with the release's own.
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
    body |= {"max_tokens": max_tokens} if max_tokens else {}
    body |= {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    began = time.monotonic()
    status, release, finished, error = 0, None, False, ""
    said: dict[str, Any] = {}
    streamed = ChatStream(began)
    try:
        with client.stream("POST", f"{base_url}/chat/completions", json=body, headers=dict(headers)) as response:
            status, release = response.status_code, response.headers.get(RELEASE_HEADER)
            if status != 200:
                error = response.read().decode(errors="replace")[:1000]
            elif stream:
                streamed.read(response.iter_lines(), timeout)
                finished, error = streamed.whole, streamed.error
            else:
                said = _read_whole(response.read())
                finished = bool(said["finish_reason"])
                error = "" if finished else "the answer has no finish_reason"
    except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError, AttributeError) as fault:
        error = f"{type(fault).__name__}: {fault}"
    latency_s = time.monotonic() - began
    if stream:
        said = {
            "text": streamed.text,
            "tokens": streamed.tokens or streamed.pieces,
            "finish_reason": streamed.finish_reason,
            "first_token_s": streamed.first_piece_s,
        }
    broken = status == 200 and not finished
    return Answer(ok=finished, status=status, release=release, latency_s=latency_s, broken=broken, error=error, **said)


def _read_whole(body: bytes) -> dict[str, Any]:
    answer = json.loads(body)
    choice = answer["choices"][0]
    return {
        "text": choice["message"].get("content") or "",
        "tokens": answer.get("usage", {}).get("completion_tokens", 0),
        "finish_reason": choice.get("finish_reason"),
    }
