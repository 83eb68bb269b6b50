"""A real HTTP server that speaks OpenAI's chat completions, and judges by a function: the answers are known exactly."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RUBRIC = "Prefer the better one.\n{{ input }}\n<a>{{ answer_a }}</a><b>{{ answer_b }}</b>"
Reply = str | tuple[int, dict[str, Any]]
"""The text of a completion, or a status and a body."""


def answers_in(prompt: str) -> tuple[str, str]:
    """The answers that a prompt of `RUBRIC` shows as A and B."""
    a, b = prompt.split("<a>")[1].split("</a><b>")
    return a, b.split("</b>")[0]


def prefers_good(prompt: str) -> str:
    """A judge that likes answers with the word good, whatever their position."""
    if "<a>" not in prompt:
        return "ready"
    a, b = ("good" in text for text in answers_in(prompt))
    return f"I compared them.\nVerdict: {'TIE' if a == b else 'A' if a else 'B'}"


class JudgeServer:
    def __init__(self, url: str):
        self.url = url
        self.judge: Callable[[str], Reply] = prefers_good
        self.key = ""
        """The key that it asks for; empty: none."""
        self.asked: list[dict[str, Any]] = []


@contextmanager
def judge_server() -> Iterator[JudgeServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            made.asked.append(body)
            if made.key and self.headers["authorization"] != f"Bearer {made.key}":
                reply: Reply = (401, {"error": {"message": "Incorrect API key provided"}})
            elif self.path != "/v1/chat/completions":
                reply = (404, {"error": {"message": "no such path"}})
            else:
                reply = made.judge(body["messages"][0]["content"])
            if isinstance(reply, str):
                text = {"role": "assistant", "content": reply}
                reply = (200, {"model": "judge-2026-11-01", "choices": [{"index": 0, "message": text}]})
            data = json.dumps(reply[1]).encode()
            self.send_response(reply[0])
            self.send_header("content-length", str(len(data)))
            self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = JudgeServer(f"http://127.0.0.1:{server.server_address[1]}/v1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
