"""Asks an endpoint as its users do, over HTTP and through the gateway, and says how that went.

For smoke tests, the rollout's own traffic and health checks. What the answers mean is judged elsewhere.
"""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pydantic import Field

from llmops_assets.domain.models import Frozen
from llmops_assets.domain.rollout import ProbeResult
from llmops_assets.programs.engines.chat_stream import ChatStream
from resources.serving.interface import RELEASE_HEADER

if TYPE_CHECKING:
    import httpx


class Answer(Frozen):
    ok: bool = Field(description="Status 200 and a proper end.")
    status: int = Field(description="HTTP status; 0: no answer came.")
    text: str = ""
    latency_s: float = Field(description="From the request to its end.")
    first_token_s: float | None = None
    tokens: int = Field(default=0, description="As the engine counts them, else the pieces of the stream.")
    finish_reason: str | None = Field(default=None, description="Why it ended, in the engine's word: stop or length.")
    broken: bool = Field(default=False, description="It began and did not end properly.")
    release: str | None = Field(default=None, description="Digest of the release that answered.")
    error: str = Field(default="", description="What went wrong, in words.")

    def sample(self, wanted_tokens: int) -> ProbeResult:
        """As the rollout judges it: cut is what ended at a limit before it had as many tokens as were wanted."""
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
    """One request, one answer. Never raises for what an endpoint does: that is what the answer tells.

    Args:
        base_url: the endpoint, ending in /v1.
        model: its name there.
        text: what the user says, bare: the prompt is the endpoint's.
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
    """Asks each input once, several at a time; answers in the order of the inputs."""
    with _client(timeout) as client, ThreadPoolExecutor(max(1, concurrency)) as pool:
        asked = [
            pool.submit(_ask, client, base_url, model, text, headers or {}, stream, timeout, max_tokens)
            for text in inputs
        ]
        return [answer.result() for answer in asked]


def _client(timeout: float) -> "httpx.Client":
    import httpx

    # A connection of its own for every request, as separate users have; and past any proxy of the environment.
    return httpx.Client(timeout=timeout, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


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

    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0}
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
