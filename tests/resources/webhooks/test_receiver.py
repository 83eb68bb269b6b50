"""The real process, with real requests: what it takes, what it refuses, what it remembers, and what it logs."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from llmops_assets.machine.processes import wait_for as came_within
from tests.support.ports import free_port
from tests.support.waiting import CEILING_S, wait_for
from tests.support.webhooks import (
    SECRET,
    github_headers,
    github_push,
    gitlab_push,
    hex_digest,
    push_to,
    send,
    standard_headers,
)

ZOO, FARM = "https://example.com/ada/zoo.git", "git@example.com:ada/farm.git"
OLD, OWN = "the secret that is being replaced", "the secret of the farm alone"
LIMIT = 64 * 1024
SETTINGS: dict[str, Any] = {
    "projects": [
        {"name": "zoo", "repository": ZOO},
        {"name": "farm", "repository": FARM, "branch": "trunk", "webhook_secrets": [{"env": "FARM"}]},
    ],
    "webhooks": {"secrets": [{"env": "NEW"}, {"env": "OLD"}], "max_body": LIMIT, "receive_timeout": 1.0},
    "poll": 3600,
}


class Running:
    """A receiver as its own process; its code server does not run."""

    def __init__(self, folder: Path):
        self.port = free_port()
        self.url, self.log = f"http://127.0.0.1:{self.port}", folder / "receiver.log"
        settings = {**SETTINGS, "webhooks": {**SETTINGS["webhooks"], "port": self.port}, "home": str(folder / "home")}
        (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
        place = {"grpc_server": {"socket": str(folder / "none.sock"), "location_name": "none"}}
        (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [place]}))
        (folder / "dagster").mkdir(exist_ok=True)
        self._folder = folder
        self.env = {
            **os.environ, "LLMOPS_SETTINGS": str(folder / "settings.yaml"), "LLMOPS_HOME": str(folder / "home"),
            "DAGSTER_HOME": str(folder / "dagster"), "NEW": SECRET, "OLD": OLD, "FARM": OWN,
        }  # fmt: skip
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "resources.webhooks", "-w", "workspace.yaml"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self._folder, env=self.env, stdout=log, stderr=log)
        wait_for("the receiver", self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("receiver"))
    yield running
    running.stop()


def github(receiver: Running, document: Any, secret: str = SECRET, **headers: str) -> httpx.Response:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return send(receiver.url, "github", body, {**github_headers(body, secret), **headers})


def assert_refused(answer: httpx.Response, code: int, reason: str) -> None:
    said = answer.json()
    assert (answer.status_code, said["status"], said["projects"]) == (code, "refused", [])
    assert reason in said["reason"]


def test_a_signed_push_is_accepted_for_its_project(receiver: Running) -> None:
    answer = github(receiver, github_push(ZOO))
    assert (answer.status_code, answer.json()["status"], answer.json()["projects"]) == (202, "accepted", ["zoo"])


def test_gitlab_and_gitea_are_taken_at_their_own_addresses(receiver: Running) -> None:
    body = json.dumps(gitlab_push(ZOO)).encode()
    assert send(receiver.url, "gitlab", body, standard_headers(body)).status_code == 202
    token = {"content-type": "application/json", "x-gitlab-token": SECRET, "idempotency-key": "an-event"}
    assert send(receiver.url, "gitlab", body, token).json()["projects"] == ["zoo"]
    body = json.dumps(github_push("git@example.com:ada/zoo.git")).encode()
    headers = {"content-type": "application/json; charset=utf-8", "x-gitea-event": "push", "x-gitea-delivery": "1",
               "x-gitea-signature": hex_digest(body)}  # fmt: skip
    assert send(receiver.url, "gitea", body, headers).json()["projects"] == ["zoo"]


def test_while_a_secret_is_replaced_the_old_one_is_taken_too(receiver: Running) -> None:
    assert push_to(receiver.url, ZOO, secret=OLD).status_code == 202


def test_a_project_with_its_own_secret_is_woken_by_that_one_only(receiver: Running) -> None:
    assert push_to(receiver.url, FARM, "refs/heads/trunk", OWN).json()["projects"] == ["farm"]
    assert_refused(push_to(receiver.url, FARM, "refs/heads/trunk", SECRET), 403, "another project's")
    assert_refused(push_to(receiver.url, ZOO, secret=OWN), 403, "another project's")


@pytest.mark.parametrize("headers", [{"x-hub-signature-256": "sha256=" + "0" * 64}, {"x-hub-signature-256": ""}])
def test_a_bad_signature_is_refused_before_the_body_is_read(receiver: Running, headers: dict[str, str]) -> None:
    answer = github(receiver, b"not even JSON", **headers)
    assert answer.status_code == 401
    assert SECRET not in answer.text


def test_a_delivery_of_another_time_is_refused(receiver: Running) -> None:
    body = json.dumps(gitlab_push(ZOO)).encode()
    assert_refused(send(receiver.url, "gitlab", body, standard_headers(body, at=time.time() - 3600)), 401, "300 s")


def test_a_replay_does_nothing_also_after_a_restart(receiver: Running) -> None:
    body = json.dumps(github_push(ZOO)).encode()
    headers = github_headers(body)
    assert send(receiver.url, "github", body, headers).json()["status"] == "accepted"
    for again in (headers, {**headers, "x-github-delivery": "another id"}):
        answer = send(receiver.url, "github", body, again)
        assert (answer.status_code, answer.json()["status"], answer.json()["projects"]) == (200, "already", [])
    receiver.process.kill()
    receiver.process.wait(60)
    receiver.start()
    assert send(receiver.url, "github", body, headers).json()["status"] == "already"


@pytest.mark.parametrize(
    ("headers", "code", "status"),
    [({"x-github-event": "ping"}, 200, "ignored"), ({"x-github-event": "star"}, 202, "ignored")],
)
def test_other_events_are_answered_with_a_reason(
    receiver: Running, headers: dict[str, str], code: int, status: str
) -> None:
    answer = github(receiver, {"zen": "Speak like a human."}, **headers)
    assert (answer.status_code, answer.json()["status"]) == (code, status)
    assert answer.json()["reason"]


def test_other_branches_are_answered_with_what_is_watched(receiver: Running) -> None:
    answer = github(receiver, github_push(ZOO, "refs/heads/dev"))
    assert (answer.status_code, answer.json()["status"]) == (202, "ignored")
    assert "dev is not watched, but main" in answer.json()["reason"]


@pytest.mark.parametrize(
    ("document", "code", "reason"),
    [
        (b"[1", 400, "not valid JSON"),
        (b"[]", 400, "expected a JSON object"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, 400, "nested more than"),
        (b"[" * 60_000, 400, "nested more than"),
        (b'{"a": ' + b"9" * 5_000 + b"}", 400, "digits"),
        (b'{"a": "\xff"}', 400, "UTF-8"),
        ({"ref": "refs/heads/main"}, 400, "repository.clone_url is missing"),
        (github_push("https://example.com/ada/other.git"), 404, "no project watches"),
    ],
)
def test_a_signed_body_that_is_no_push_is_refused(receiver: Running, document: Any, code: int, reason: str) -> None:
    assert_refused(github(receiver, document), code, reason)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_another_content_type_is_refused_with_the_right_one(receiver: Running, kind: str) -> None:
    answer = github(receiver, github_push(ZOO), **{"content-type": kind})
    assert_refused(answer, 415, "application/json")


def test_other_addresses_and_methods_are_refused(receiver: Running) -> None:
    assert_refused(
        send(receiver.url, "bitbucket", b"{}", {"content-type": "application/json"}), 404, "/webhooks/github"
    )
    assert httpx.post(f"{receiver.url}/").status_code == 404
    assert httpx.get(f"{receiver.url}/webhooks/github").status_code == 405


def test_a_large_body_is_refused_by_its_length_and_by_what_arrives(receiver: Running) -> None:
    large = github_push(ZOO, commits=["x" * LIMIT])
    assert_refused(github(receiver, large), 413, "webhooks.max_body")
    body = json.dumps(large).encode()

    def chunks() -> Iterator[bytes]:  # without a Content-Length
        for start in range(0, len(body), 8192):
            yield body[start : start + 8192]

    try:
        answer = httpx.post(f"{receiver.url}/webhooks/github", content=chunks(), headers=github_headers(body))
    except httpx.WriteError:
        pass  # it hung up before everything was sent
    else:
        assert answer.status_code == 413


def connected(receiver: Running, *lines: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", receiver.port), timeout=CEILING_S)
    client.sendall("\r\n".join(lines).encode())
    return client


def test_a_body_that_does_not_arrive_in_time_is_refused(receiver: Running) -> None:
    head = (
        "POST /webhooks/github HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        "Content-Length: 100",
        "",
        "{",
    )
    with connected(receiver, *head) as client:
        assert b" 408 " in client.recv(4096)


def test_a_connection_that_never_ends_its_headers_is_closed(receiver: Running) -> None:
    head = ("POST /webhooks/github HTTP/1.1", "Host: x", "X-Slow: ")
    with connected(receiver, *head) as client, suppress(ConnectionResetError):
        assert client.recv(4096) == b""


def test_a_flood_is_answered_and_ends_in_one_look_at_a_time(receiver: Running) -> None:
    answers: list[int] = []

    def flood() -> None:
        for _ in range(10):
            answers.append(push_to(receiver.url, ZOO).status_code)

    began = receiver.log.stat().st_size
    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {202, 200} and len(answers) == 40
    lines = receiver.log.read_text()[began:].splitlines()
    looks = [line for line in lines if re.search(r" zoo: ", line)]
    assert len(looks) < 20, "at most one a second, however many deliveries"


def test_its_log_has_no_secret_and_no_body(receiver: Running) -> None:
    github(receiver, github_push(ZOO, note="MARK-IN-THE-BODY"))
    assert came_within(lambda: "github: accepted, 202" in receiver.log.read_text(), CEILING_S)
    said = receiver.log.read_text()
    assert [word for word in (SECRET, OLD, OWN, "MARK-IN-THE-BODY", "sha256=") if word in said] == []


def test_a_secret_that_is_not_set_ends_it_with_the_variables_name(receiver: Running, tmp_path: Path) -> None:
    env = {name: value for name, value in receiver.env.items() if name != "OLD"}
    command = [sys.executable, "-m", "resources.webhooks", "-w", "workspace.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert "OLD" in done.stderr and "Traceback" not in done.stderr
