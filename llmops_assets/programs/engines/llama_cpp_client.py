"""A client of llama.cpp's server, for measurements.

Connections are not reused: the server sometimes closes one that is kept alive, after a streamed answer.
"""

import time
from contextlib import suppress
from typing import Any

import httpx

from llmops_assets.programs.engines.chat_stream import ChatStream
from llmops_assets.programs.engines.interface import Completion, Likelihood, Streamed

ANSWER_S = 600.0
FORCED = 1e6  # a bias above any logit: the engine answers with this token
NO_STOP = ["\uffff"]  # no text has it; without a list of its own, a request gets the release's stop texts
MORE_TOKENS = (256, 1 << 24)  # the most likely tokens to ask for; the second is more than any vocabulary


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

    def ends_at(self, token: int) -> bool:
        """Whether an answer ends at this token. It is forced as the first token of an answer of two."""
        body = {
            "prompt": [token],
            "logit_bias": [[token, FORCED]],
            "n_predict": 2,
            "samplers": ["temperature"],
            "temperature": 0,
            "cache_prompt": False,
        }
        return bool(self._post("/completion", body)["stop_type"] == "eos")

    def answer(self, messages: list[dict[str, str]], max_tokens: int) -> Completion:
        """The answer with the engine's sampling defaults, computed from the whole prompt without a cache."""
        asked = {"messages": messages, "max_tokens": max_tokens, "cache_prompt": False}
        body = self._post("/v1/chat/completions", asked)
        choice, usage = body["choices"][0], body["usage"]
        return Completion(
            (choice["message"].get("content") or "").strip(),
            int(usage["prompt_tokens"]),
            int(usage["completion_tokens"]),
            choice["finish_reason"] == "length",
        )

    def likelihood(self, prompt: list[int], answer: list[int]) -> Likelihood:
        """The likelihood of an answer's tokens after a prompt's tokens.

        llama.cpp's server has no log-probabilities of a prompt. So each token of the answer is forced in a request of
        its own, and its log-probability before sampling is returned. What precedes it is in the cache: a request
        computes one token. All requests use one slot and one order, so the value is repeatable.

        Raises:
            RuntimeError: the engine does not return it.
        """
        before = list(prompt)
        total, greedy = 0.0, True
        for token in answer:
            logprob, likeliest = self._log_probability(before, token, cached=len(before) > len(prompt))
            total -= logprob
            greedy = greedy and likeliest == token
            before.append(token)
        return Likelihood(total, greedy)

    def continuation(self, prompt: list[int], max_tokens: int, stop: list[str]) -> str:
        body = {
            "prompt": prompt,
            "n_predict": max_tokens,
            "samplers": ["temperature"],
            "temperature": 0,
            "stop": stop or NO_STOP,
            "id_slot": 0,
            "cache_prompt": False,
        }
        return str(self._post("/completion", body)["content"])

    def _log_probability(self, before: list[int], token: int, cached: bool) -> tuple[float, int]:
        """(log-probability of the token, the most likely token)."""
        if told := self._forced(before, token, 1, cached):
            if told["id"] != token:
                raise RuntimeError(f"the engine answered with token {told['id']} where {token} was forced")
            return float(told["logprob"]), int(told["top_logprobs"][0]["id"])
        # The server returns nothing for a token that ends within a character (part of an emoji): look for it among the
        # most likely ones beside another forced token.
        whole = self.tokens("a")[-1]
        for most in MORE_TOKENS:
            found = (self._forced(before, whole, most, cached) or {}).get("top_logprobs", ())
            for listed in found:
                if listed["id"] == token:
                    return float(listed["logprob"]), int(found[0]["id"])
        raise RuntimeError(f"the engine returned no log-probability of token {token}")

    def _forced(self, before: list[int], token: int, most: int, cached: bool) -> dict[str, Any] | None:
        body = {
            "prompt": before,
            "logit_bias": [[token, FORCED]],
            "n_predict": 1,
            "n_probs": most,
            "samplers": ["temperature"],
            "temperature": 0,
            "stop": NO_STOP,
            "id_slot": 0,
            "cache_prompt": cached,
        }
        return next(iter(self._post("/completion", body).get("completion_probabilities") or ()), None)

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
