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
from resources.serving.local.envoy_config import RELEASE_HEADER

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
    seen: dict[str, Any] = {
        "status": 0,
        "text": "",
        "release": None,
        "first_token_s": None,
        "tokens": 0,
        "finish_reason": None,
    }
    began = time.monotonic()
    finished, error = False, ""
    try:
        with client.stream("POST", f"{base_url}/chat/completions", json=body, headers=dict(headers)) as response:
            seen |= {"status": response.status_code, "release": response.headers.get(RELEASE_HEADER)}
            if response.status_code != 200:
                error = response.read().decode(errors="replace")[:1000]
            elif stream:
                finished, error = _read_stream(response, seen, began, timeout)
            else:
                finished, error = _read_whole(response.read(), seen)
    except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as fault:
        error = f"{type(fault).__name__}: {fault}"
    latency_s = time.monotonic() - began
    broken = seen["status"] == 200 and not finished
    return Answer(ok=finished, latency_s=latency_s, broken=broken, error=error, **seen)


def _read_whole(body: bytes, seen: dict[str, Any]) -> tuple[bool, str]:
    answer = json.loads(body)
    choice = answer["choices"][0]
    seen |= {
        "text": choice["message"].get("content") or "",
        "tokens": answer.get("usage", {}).get("completion_tokens", 0),
        "finish_reason": choice.get("finish_reason"),
    }
    return (True, "") if choice.get("finish_reason") else (False, "the answer has no finish_reason")


def _read_stream(response: "httpx.Response", seen: dict[str, Any], began: float, timeout: float) -> tuple[bool, str]:
    """Whether the stream ended as it should: with a finish_reason and [DONE]; and if not, why."""
    for line in response.iter_lines():
        if time.monotonic() - began > timeout:
            return False, f"the answer took longer than {timeout:g} s"
        if line.startswith("error:"):
            return False, line[:1000]
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return (True, "") if seen["finish_reason"] else (False, "the stream has no finish_reason")
        event = json.loads(data)
        if "error" in event:
            return False, json.dumps(event["error"])[:1000]
        for choice in event.get("choices", ()):
            seen["finish_reason"] = choice.get("finish_reason") or seen["finish_reason"]
            if piece := choice.get("delta", {}).get("content"):
                seen["first_token_s"] = seen["first_token_s"] or time.monotonic() - began
                seen |= {"text": seen["text"] + piece, "tokens": seen["tokens"] + 1}
        seen["tokens"] = (event.get("usage") or {}).get("completion_tokens") or seen["tokens"]
    return False, "the stream ended without [DONE]"
