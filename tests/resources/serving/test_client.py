"""Which answers the probe accepts: status 200 is not enough, since a stream may break off."""

import json
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from resources.serving.client import ask, ask_many


def event(text: str | None = None, finish: str | None = None) -> str:
    delta = {} if text is None else {"content": text}
    return f"data: {json.dumps({'choices': [{'delta': delta, 'finish_reason': finish}]})}\n\n"


@pytest.fixture
def endpoint() -> Iterator[Callable[[int, str], str]]:
    """Starts an endpoint that answers every request with the given status and body."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.send_header("x-llmops-release", "abc")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_complete_stream_is_a_good_answer(endpoint: Callable[[int, str], str]) -> None:
    url = endpoint(200, event("Hel") + event("lo") + event(finish="stop") + "data: [DONE]\n\n")
    answer = ask(url, "demo", "Hi")
    assert (answer.ok, answer.broken, answer.text, answer.tokens, answer.release) == (True, False, "Hello", 2, "abc")
    assert answer.first_token_s is not None and answer.first_token_s <= answer.latency_s
    assert (answer.sample(2).ok, answer.sample(2).empty, answer.sample(9).cut) == (True, False, False)


def test_the_client_stays_until_the_response_ends() -> None:
    """It closed the connection at [DONE]: a gateway that had not sent the end yet counted a user who left."""
    left: list[bool] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write((event("Hello", "stop") + "data: [DONE]\n\n").encode())
            readable, _, _ = select.select([self.connection], [], [], 0.3)
            left.append(bool(readable))  # a client that has sent its request is only heard of again when it closes

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        answer = ask(f"http://127.0.0.1:{server.server_port}/v1", "demo", "Hi")
        server.shutdown()
    assert (answer.ok, answer.text, left) == (True, "Hello", [False])


@pytest.mark.parametrize(
    "body",
    [
        event("Hel"),
        event("Hel") + event(finish="stop"),
        event("Hel") + "data: [DONE]\n\n",
        event("Hel") + 'data: {"error": {"message": "out of memory"}}\n\ndata: [DONE]\n\n',
        event("Hel") + "data: {not json\n\n",
        event("Hel") + "data: 5\n\n",
        event("Hel") + 'data: {"choices": [5]}\n\n',
        event("Hel") + "error: out of memory\n\n",
        "",
    ],
    ids=[
        "cut off",
        "no DONE",
        "no finish_reason",
        "error within",
        "not JSON",
        "a number",
        "no choice",
        "error line",
        "nothing",
    ],
)
def test_a_stream_without_a_proper_end_is_broken(endpoint: Callable[[int, str], str], body: str) -> None:
    answer = ask(endpoint(200, body), "demo", "Hi")
    assert (answer.ok, answer.broken, answer.status) == (False, True, 200)
    assert answer.error
    assert not answer.sample(1).ok


def test_a_plain_answer_needs_a_finish_reason_too(endpoint: Callable[[int, str], str]) -> None:
    def body(finish: str | None) -> str:
        return json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": finish}]})

    assert ask(endpoint(200, body("stop")), "demo", "Hi", stream=False).ok
    assert ask(endpoint(200, body(None)), "demo", "Hi", stream=False).broken


def test_an_empty_answer_is_reported_as_empty(endpoint: Callable[[int, str], str]) -> None:
    url = endpoint(200, event(" \n") + event(finish="stop") + "data: [DONE]\n\n")
    assert ask(url, "demo", "Hi").sample(1).empty


def test_an_answer_that_ends_at_a_limit_is_cut_if_it_is_shorter_than_was_wanted(
    endpoint: Callable[[int, str], str],
) -> None:
    url = endpoint(200, event("Hel") + event("lo") + event(finish="length") + "data: [DONE]\n\n")
    answer = ask(url, "demo", "Hi")
    assert answer.ok and answer.finish_reason == "length"
    assert answer.sample(3).cut and not answer.sample(2).cut


def test_a_refusal_is_reported_with_its_words_and_is_no_broken_stream(endpoint: Callable[[int, str], str]) -> None:
    answers = ask_many(endpoint(500, "the reason"), "demo", ["a", "b", "c"], concurrency=2)
    assert [(a.ok, a.broken, a.status, a.error) for a in answers] == [(False, False, 500, "the reason")] * 3


def test_no_answer_at_all_is_an_answer_of_status_0() -> None:
    answer = ask("http://127.0.0.1:1/v1", "demo", "Hi")
    assert (answer.ok, answer.status) == (False, 0)
    assert "ConnectError" in answer.error


def test_the_clients_of_serving_are_light_to_import() -> None:
    """Every process of the code location imports them, including those that never serve."""
    script = "import sys, resources.serving.local.serving, resources.serving.client\n"
    script += "print([m for m in sys.modules if '.' not in m])"
    modules = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert not [heavy for heavy in ("dagster", "httpx", "torch", "supervisor", "envoy") if f"'{heavy}'" in modules]
