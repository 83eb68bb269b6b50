"""A client of llama.cpp's server, for measurements.

Connections are not reused: the server sometimes closes one that is kept alive, after a streamed answer.
"""

import time
from contextlib import suppress
from typing import Any

import httpx

from llmops_assets.programs.engines.chat_stream import ChatStream
from llmops_assets.programs.engines.interface import Streamed

ANSWER_S = 600.0


class LlamaCppClient:
    """An `EngineClient`."""

    def __init__(self, base_url: str):
        # One client for all requests: creating one takes 20 ms, for certificates that are not needed here.
        self.client = httpx.Client(
            base_url=base_url, timeout=ANSWER_S, limits=httpx.Limits(max_keepalive_connections=0), trust_env=False
        )

    def ready(self) -> bool:
        try:
            return self.client.get("/health", timeout=5.0).status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        self.client.close()

    def rendered(self, messages: list[dict[str, str]]) -> str:
        """The text that the engine renders from a conversation."""
        return str(self._post("/apply-template", {"messages": messages})["prompt"])

    def tokens(self, text: str) -> list[int]:
        """The ids that a chat request evaluates for its rendered text.

        llama.cpp strips the beginning-of-text token from the rendered text if the model's tokenizer adds one, and adds
        it when it tokenizes the request: `add_special` does the same here.
        """
        body = {"content": text, "add_special": True, "parse_special": True}
        return [int(t) for t in self._post("/tokenize", body)["tokens"]]

    def answer(self, messages: list[dict[str, str]], max_tokens: int) -> tuple[str, int, int]:
        """The answer with the engine's sampling defaults, and the numbers of tokens of the prompt and of the answer."""
        body = self._post("/v1/chat/completions", {"messages": messages, "max_tokens": max_tokens})
        usage = body["usage"]
        text = body["choices"][0]["message"].get("content") or ""
        return text.strip(), int(usage["prompt_tokens"]), int(usage["completion_tokens"])

    def stream(self, messages: list[dict[str, str]], max_tokens: int) -> Streamed:
        """One streamed answer with its times; an incomplete one is reported, not raised."""
        body = {"messages": messages, "max_tokens": max_tokens, "stream": True, "cache_prompt": False}
        body["stream_options"] = {"include_usage": True}
        began = time.monotonic()
        stream = ChatStream(began)
        # An error leaves an incomplete answer, which is reported as such.
        with (
            suppress(httpx.HTTPError, ValueError),
            self.client.stream("POST", "/v1/chat/completions", json=body) as response,
        ):
            response.raise_for_status()
            stream.read(response.iter_lines())
        latency = time.monotonic() - began
        first = latency if stream.first_piece_s is None else stream.first_piece_s
        return Streamed(stream.tokens or 0, first, latency, stream.whole)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self.client.post(path, json=body)
        if response.status_code != 200:
            raise RuntimeError(f"the engine answered {response.status_code} to {path}: {response.text[:300]}")
        answer: dict[str, Any] = response.json()
        return answer
