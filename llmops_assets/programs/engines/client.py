"""The serving engine, started on a free port for as long as a measurement takes, and asked over HTTP as a client would.

What an engine is belongs in `programs.serve`, what is made of its answers in `programs.served_evaluate`. Connections
are never used twice: llama.cpp's server closes a kept one at random after a streamed answer.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from llmops_assets.programs.engines.chat_stream import ChatStream
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import ServeSpec

START_S = 120.0
ANSWER_S = 600.0
ATTEMPTS = 3  # a free port can be taken between looking and listening


@dataclass(frozen=True)
class Streamed:
    """One streamed answer."""

    tokens: int
    first_token_s: float
    latency_s: float
    whole: bool


class Engine:
    """A running engine."""

    def __init__(self, base_url: str):
        # One client, since making one costs 20 ms for certificates that are not needed here; its connections are new.
        self.client = httpx.Client(
            base_url=base_url, timeout=ANSWER_S, limits=httpx.Limits(max_keepalive_connections=0), trust_env=False
        )

    def rendered(self, messages: list[dict[str, str]]) -> str:
        """The text that the engine makes of a conversation."""
        return str(self._post("/apply-template", {"messages": messages})["prompt"])

    def tokens(self, text: str) -> list[int]:
        """Its token ids, special tokens read as such."""
        body = {"content": text, "add_special": False, "parse_special": True}
        return [int(t) for t in self._post("/tokenize", body)["tokens"]]

    def answer(self, messages: list[dict[str, str]], max_tokens: int) -> tuple[str, int, int]:
        """The greedy answer, the tokens that it was asked with and those that it has."""
        body = self._post("/v1/chat/completions", {"messages": messages, "max_tokens": max_tokens, **GREEDY})
        usage = body["usage"]
        text = body["choices"][0]["message"].get("content") or ""
        return text.strip(), int(usage["prompt_tokens"]), int(usage["completion_tokens"])

    def stream(self, messages: list[dict[str, str]], max_tokens: int) -> Streamed:
        """One streamed answer, timed; a broken one is reported, not raised."""
        body = {"messages": messages, "max_tokens": max_tokens, "stream": True, "cache_prompt": False, **GREEDY}
        body["stream_options"] = {"include_usage": True}
        began = time.monotonic()
        stream = ChatStream(began)
        # What goes wrong on the way leaves an answer that is not whole.
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


GREEDY = {"temperature": 0.0, "top_k": 1, "repeat_penalty": 1.0, "seed": 0}


@contextmanager
def running_engine(spec: ServeSpec, folder: Path) -> Iterator[Engine]:
    """An engine that ends with the block, and with this process however that ends: it watches a pipe of ours.

    Raises:
        BadInput: it cannot serve the model.
    """
    process, engine = _start(spec, folder)
    try:
        yield engine
    finally:
        engine.client.close()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _start(spec: ServeSpec, folder: Path) -> tuple[subprocess.Popen[bytes], Engine]:
    log = folder / "engine.log"
    for _ in range(ATTEMPTS):
        port = _free_port(spec.host)
        file = folder / "engine.json"
        file.write_text(spec.model_copy(update={"port": port}).model_dump_json(), encoding="utf-8")
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "llmops_assets.programs.serve", "--spec", str(file), "--until-stdin-closes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(os.environ),
            )
        engine = Engine(f"http://{spec.host}:{port}")
        if _ready(process, engine):
            return process, engine
        process.kill()
        process.wait()
        if "the port is not free" not in _last_line(log):
            break
    raise BadInput(_last_line(log) or "the engine did not start", spec.model)


def _ready(process: subprocess.Popen[bytes], engine: Engine) -> bool:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if engine.client.get("/health", timeout=5.0).status_code == 200:
                return True
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    return False


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
