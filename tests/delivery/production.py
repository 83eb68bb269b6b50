"""A production endpoint for tests of rollouts: an HTTP server that answers like the gateway and its engines."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from llmops_assets.domain.canary_evidence import UserRequest
from resources.serving.interface import RELEASE_HEADER, Serving, UserTraffic


class Clock:
    """A clock that advances only in `sleep`."""

    def __init__(self) -> None:
        self.now = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds


class Seen(UserTraffic):
    """Traffic that has already happened."""

    def __init__(self, users: Mapping[str, Sequence[UserRequest]]) -> None:
        self._users = users

    def by_release(self) -> Mapping[str, Sequence[UserRequest]]:
        return self._users


class MemoryServing(Serving):
    """An in-memory serving: the deployed releases, their traffic, and the endpoint's answers.

    Attributes:
        routed: all shares of traffic that were set, in order.
        asked: the bodies of all requests.
        answer: text of every answer.
        answers_for: release that the answers name; None: the requested one.
        takes_s: duration of each answer on the clock.
        users: what users get from each release while a step is observed.
    """

    def __init__(self, *deployed: str, weights: Mapping[str, float], url: str = "", clock: Clock | None = None):
        self.engines, self.shares, self.url, self.clock = list(deployed), dict(weights), url, clock or Clock()
        self.routed: list[dict[str, float]] = []
        self.asked: list[dict[str, object]] = []
        self.answer = "yes"
        self.answers_for: str | None = None
        self.takes_s = 0.0
        self.users: dict[str, list[UserRequest]] = {}

    def deployed(self, project: str, environment: str) -> tuple[str, ...]:
        return tuple(self.engines)

    def route(self, project: str, environment: str, weights: Mapping[str, float]) -> None:
        assert set(weights) <= set(self.engines)
        self.shares = dict(weights)
        self.routed.append(self.shares)

    def retire(self, project: str, environment: str, release_digest: str, drain_s: float) -> None:
        assert not self.shares.get(release_digest), "it has traffic"
        self.engines.remove(release_digest)

    def base_url(self, project: str, environment: str) -> str:
        return self.url

    def own_headers(self) -> dict[str, str]:
        return {}

    def candidate_headers(self, release_digest: str) -> dict[str, str]:
        return {RELEASE_HEADER: release_digest}

    def watch_users(self, project: str, environment: str) -> UserTraffic:
        return Seen(self.users)

    def questions(self) -> list[str]:
        """The last message of each request."""
        return [body["messages"][-1]["content"] for body in self.asked]  # type: ignore[index]


@contextmanager
def reachable(*deployed: str, weights: Mapping[str, float]) -> Iterator[MemoryServing]:
    """A serving whose base URL answers over HTTP inside the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            serving.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            serving.clock.sleep(serving.takes_s)
            self.send_response(200)
            self.send_header(RELEASE_HEADER, serving.answers_for or self.headers[RELEASE_HEADER])
            self.end_headers()
            choice = {"delta": {"content": serving.answer}, "finish_reason": "stop"}
            self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n".encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = MemoryServing(*deployed, weights=weights, url=f"http://127.0.0.1:{server.server_port}/v1")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield serving
    finally:
        server.shutdown()
        server.server_close()
