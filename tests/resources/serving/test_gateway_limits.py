"""The gateway refuses what an engine should never see: huge requests, foreign web pages, strangers, slow clients.

In front of a real engine, because llama.cpp's own server reflects every origin and tokenizes every body.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from llmops_assets.config.serving import ServingSettings
from llmops_assets.domain.records import Release
from resources.serving.client import Answer, ask
from resources.serving.interface import CANDIDATE_HEADER, RELEASE_HEADER
from resources.serving.local.serving import LocalServing
from tests.support.ports import free_port
from tests.support.waiting import CEILING_S

MakeRelease = Callable[[str], Release]
PAGE = "https://chat.example.com"


class Gateway:
    """A serving with a champion and a candidate."""

    def __init__(self, home: Path, model: Path, release: MakeRelease, **settings: object):
        self.home = home
        self.settings = ServingSettings(port=free_port(), **settings)  # type: ignore[arg-type]
        self.serving = LocalServing(home, self.settings, start_timeout_s=CEILING_S)
        for name in ("champion", "candidate"):
            self.serving.deploy("demo", "production", release(name), model)
        self.champion, self.candidate = release("champion").digest, release("candidate").digest
        self.serving.route("demo", "production", {self.champion: 1.0})
        self.url = self.serving.base_url("demo", "production")
        self.http = httpx.Client(trust_env=False, timeout=CEILING_S)

    def ask(self, **headers: str) -> Answer:
        return ask(self.url, "demo", "Hello", headers=headers, max_tokens=2)

    def post(self, body: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
        headers |= {"content-type": "application/json"}
        return self.http.post(f"{self.url}/chat/completions", content=body, headers=headers)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    made: list[Path] = []

    def make() -> Path:
        made.append(tmp_path_factory.mktemp("home"))
        return made[-1]

    yield make
    for home in made:
        LocalServing(home, ServingSettings()).down()


@pytest.fixture(scope="module")
def open_gateway(homes: Callable[[], Path], model_file: Path, release: MakeRelease) -> Gateway:
    return Gateway(homes(), model_file, release, max_headers=16, receive_timeout=2.0)


@pytest.fixture(scope="module")
def closed(homes: Callable[[], Path], model_file: Path, release: MakeRelease) -> Gateway:
    """A gateway that asks for keys, and allows one web page."""
    return Gateway(homes(), model_file, release, require_api_key=True, cors_origins=(PAGE,))


def body(size: int) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "a " * (size // 2)}], "max_tokens": 1}).encode()


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "in chunks"])
def test_a_huge_body_is_refused_before_an_engine_tokenizes_it(open_gateway: Gateway, chunked: bool) -> None:
    """20 MB kept an engine busy for 31 s."""
    before = open_gateway.serving.traffic("demo", "production", open_gateway.champion).requests
    huge = body(20_000_000)
    parts = (huge[n : n + 65536] for n in range(0, len(huge), 65536))
    try:
        answer = open_gateway.post(parts if chunked else huge)
    except httpx.WriteError:
        pass  # refused while it was still being sent
    else:
        assert answer.status_code == 413
        assert "larger than this endpoint accepts" in answer.json()["error"]["message"]
    assert open_gateway.serving.traffic("demo", "production", open_gateway.champion).requests == before
    assert open_gateway.post(body(200_000)).status_code == 413, (
        "below the limit of all, but more than the context holds"
    )
    assert open_gateway.ask().ok


def test_huge_headers_are_refused(open_gateway: Gateway) -> None:
    assert open_gateway.post(body(10), **{"x-long": "a" * 20_000}).status_code == 431
    assert open_gateway.post(body(10), **{f"x-{n}": "a" for n in range(200)}).status_code == 431


def test_a_client_that_never_finishes_its_request_is_cut_off(open_gateway: Gateway) -> None:
    """Each of them would hold a connection forever."""
    with socket.create_connection(("127.0.0.1", open_gateway.settings.port)) as slow:
        slow.settimeout(CEILING_S)
        path = httpx.URL(open_gateway.url).path
        head = f"POST {path}/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{{"
        slow.sendall(head.encode())
        assert b" 408 " in slow.recv(4096)


def test_a_stream_outlives_the_time_that_a_request_may_take(open_gateway: Gateway) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 2.5:
        answer = ask(open_gateway.url, "demo", "Tell me something long", max_tokens=512)
        assert (answer.ok, answer.broken) == (True, False)


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_no_web_page_may_ask_unless_it_is_configured(open_gateway: Gateway, method: str) -> None:
    """llama.cpp's server reflects every origin, with credentials: any page in a user's browser could ask."""
    asking = {"origin": "https://evil.example.com", "access-control-request-method": "POST"}
    answer = open_gateway.http.request(method, f"{open_gateway.url}/models", headers=asking)
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_candidate_is_addressed_by_its_token_only(open_gateway: Gateway) -> None:
    """By its digest, which every answer and the 404 showed, anyone could ask a release that nobody has approved."""
    gateway = open_gateway
    for headers in ({RELEASE_HEADER: gateway.candidate}, {CANDIDATE_HEADER: gateway.candidate}):
        answer = gateway.ask(**headers)
        assert answer.release != gateway.candidate
        assert gateway.candidate not in answer.error
    ours = gateway.serving.candidate_headers(gateway.candidate)
    assert gateway.ask(**ours).release == gateway.candidate
    assert gateway.candidate not in str(ours)
    again = LocalServing(gateway.home, gateway.settings)
    assert again.candidate_headers(gateway.candidate) == ours, "another process probes with the same token"
    token = next(iter(ours.values()))
    assert gateway.ask(**{CANDIDATE_HEADER: token[:-1] + ("0" if token[-1] != "0" else "1")}).status == 404


def test_an_engine_answers_the_gateway_only(open_gateway: Gateway) -> None:
    """Its port is open to every user of this machine, past the gateway and its keys."""
    for replica in open_gateway.serving._files.read().replicas:
        base = f"http://{replica.spec.host}:{replica.spec.port}/v1"
        assert ask(base, "demo", "Hello", max_tokens=2).status == 401
        assert ask(base, "demo", "Hello", headers={"authorization": f"Bearer {replica.spec.api_key}"}, max_tokens=2).ok


def test_only_clients_with_a_key_are_answered_and_keys_change_without_a_restart(closed: Gateway) -> None:
    gateway, serving = closed, closed.serving
    pid = serving._machine.supervisor.processes()["gateway"].pid
    nobody = gateway.ask()
    assert nobody.status == 401 and "needs an API key" in nobody.error
    assert gateway.ask(authorization="Bearer llmops-guessed").status == 401

    first, text = serving.add_api_key("ada", None)
    _, other = serving.add_api_key("bo", "another-project")
    assert gateway.ask(authorization=f"Bearer {text}").release == gateway.champion
    assert gateway.ask(authorization=f"Bearer {other}").status == 401, "a key of another project"
    assert gateway.ask(authorization=f"Bearer {first.sha256}").status == 401, "what is stored opens nothing"
    _, newer = serving.add_api_key("ada", "demo")
    serving.revoke_api_keys("ada", first.id)
    assert gateway.ask(authorization=f"Bearer {text}").status == 401
    assert gateway.ask(authorization=f"Bearer {newer}").ok
    assert serving._machine.supervisor.processes()["gateway"].pid == pid

    written = "".join(p.read_text(errors="replace") for p in gateway.home.rglob("*") if p.is_file())
    assert not [key for key in (text, other, newer) if key in written], "only hashes are stored"
    assert gateway.http.get(gateway.url.replace("/demo/production/v1", "/")).text.count("demo") == 0


def test_our_own_requests_need_no_key(closed: Gateway) -> None:
    """Probes and health checks would fail as soon as keys are required."""
    serving = closed.serving
    assert closed.ask(**serving.candidate_headers(closed.candidate)).release == closed.candidate
    assert closed.ask(**serving.own_headers()).release == closed.champion


def test_a_configured_page_may_ask_and_another_may_not(closed: Gateway) -> None:
    """The browser's preflight request has no key; the request itself needs one."""

    def asked(origin: str) -> httpx.Response:
        asking = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
        return closed.http.request("OPTIONS", f"{closed.url}/chat/completions", headers=asking)

    allowed = asked(PAGE)
    assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed.headers
    assert "access-control-allow-origin" not in asked("https://evil.example.com").headers
    _, key = closed.serving.add_api_key("page", None)
    headers = {"origin": PAGE, "authorization": f"Bearer {key}"}
    answer = closed.http.get(f"{closed.url}/models", headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    assert answer.headers.get_list("access-control-allow-origin") == [PAGE], "the engine's own header is gone"
