"""A production endpoint for tests of rollouts: an HTTP server that answers like the gateway and its engines."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from llmops_assets.domain.canary_evidence import UserRequest
from llmops_assets.domain.records import Release
from resources.serving.interface import RELEASE_HEADER, Serving, ServingError, UserTraffic


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
        engines, shares: production's releases and their traffic.
        staging: likewise staging's.
        calls: called with each operation's name before it and after it, to interrupt it; by default does nothing.
        broken: releases whose engine does not start.
        routed: all shares of traffic that production got, in order.
        asked: the bodies of all requests.
        answer: text of every answer.
        answers_for: release that the answers name; None: the requested one.
        takes_s: duration of each answer on the clock.
        users: what users get from each release while a step is observed.
    """

    def __init__(self, *deployed: str, weights: Mapping[str, float], url: str = "", clock: Clock | None = None):
        self.engines, self.shares, self.url, self.clock = list(deployed), dict(weights), url, clock or Clock()
        self.staging: tuple[list[str], dict[str, float]] = ([], {})
        self.calls: Callable[[str], None] = lambda name: None
        self.broken: set[str] = set()
        self.is_stopped = False
        self.routed: list[dict[str, float]] = []
        self.asked: list[dict[str, object]] = []
        self.answer = "yes"
        self.answers_for: str | None = None
        self.takes_s = 0.0
        self.users: dict[str, list[UserRequest]] = {}

    def _of(self, environment: str) -> tuple[list[str], dict[str, float]]:
        return (self.engines, self.shares) if environment == "production" else self.staging

    def deploy(
        self,
        project: str,
        environment: str,
        release: Release,
        model_file: Path,
        on_wait: Callable[[str], None] | None = None,
        sha256: str = "",
    ) -> None:
        self.start(environment, release)

    def start(self, environment: str, release: Release) -> None:
        """What a `deploy` callback of a rollout or of a reconciler does here."""
        self.calls("deploy")
        if release.digest in self.broken:
            raise ServingError(f"the engine of {release.digest[:12]} does not start")
        engines, _ = self._of(environment)
        if release.digest not in engines:
            engines.append(release.digest)
        self.calls("deployed")

    def deployed(self, project: str, environment: str) -> tuple[str, ...]:
        return tuple(self._of(environment)[0])

    def weights(self, project: str, environment: str) -> dict[str, float]:
        return dict(self._of(environment)[1])

    def route(self, project: str, environment: str, weights: Mapping[str, float]) -> None:
        self.calls("route")
        engines, _ = self._of(environment)
        if not set(weights) <= set(engines):
            raise ServingError("it is not deployed: deploy it first")
        if environment == "production":
            self.shares = dict(weights)
            self.routed.append(self.shares)
        else:
            self.staging = (engines, dict(weights))
        self.calls("routed")

    def retire(self, project: str, environment: str, release_digest: str, drain_s: float) -> None:
        self.calls("retire")
        engines, shares = self._of(environment)
        if shares.get(release_digest):
            raise ServingError("it has traffic: route it to another release first")
        if release_digest in engines:
            engines.remove(release_digest)
        self.calls("retired")

    def stopped(self) -> bool:
        return self.is_stopped

    def ensure_running(self) -> tuple[str, ...]:
        return ()

    def forget(self) -> None:
        """Loses all deployments, like a lost state.json."""
        self.engines, self.shares, self.staging = [], {}, ([], {})

    def base_url(self, project: str, environment: str) -> str:
        return self.url

    def own_headers(self) -> dict[str, str]:
        return {}

    def candidate_headers(self, release_digest: str) -> dict[str, str]:
        return {RELEASE_HEADER: release_digest}

    def watch_users(self, project: str, environment: str, since: float | None = None) -> UserTraffic:
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
