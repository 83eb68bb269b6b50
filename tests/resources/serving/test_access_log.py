"""What the gateway records of users' requests, and who reads it: rollouts are judged on nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmops_assets.domain.canary_evidence import UserRequest
from llmops_assets.domain.records import Release
from resources.serving.client import ask_many
from resources.serving.local.access_log import AccessLogReader, request_of
from resources.serving.local.serving import LocalServing
from tests.support.waiting import wait_for


def entry(**change: Any) -> dict[str, Any]:
    """An entry as Envoy 1.40 writes it."""
    whole = {
        "start": "4102444800.000000", "route": "users", "cluster": "zoo/production/new", "method": "POST",
        "status": 200, "details": "via_upstream", "flags": None, "ms": 250, "first_ms": 20, "sent": 512,
    }  # fmt: skip
    return {**whole, **change}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, UserRequest(ok=True, latency_s=0.25)),
        ({"flags": "-"}, UserRequest(ok=True, latency_s=0.25)),
        ({"status": 500}, UserRequest(ok=False, latency_s=0.25)),
        ({"status": 503, "flags": "UF,URX", "details": "upstream_reset"}, UserRequest(ok=False, latency_s=0.25)),
        ({"flags": "UPE"}, UserRequest(ok=False, latency_s=0.25)),
        ({"status": 400}, UserRequest(ok=False, latency_s=0.25, refused=True)),
        ({"flags": "DC"}, UserRequest(ok=False, latency_s=0.25, left=True)),
        ({"status": 0, "flags": "DC", "sent": 0}, UserRequest(ok=False, latency_s=0.25, left=True, unanswered=True)),
        ({"status": 413, "details": "request_payload_too_large"}, None),
        ({"route": "named"}, None),
        ({"route": None, "cluster": None, "status": 404, "details": "direct_response"}, None),
        ({"method": "GET"}, None),
    ],
)
def test_an_entry_is_evidence_on_the_engine_or_none(change: dict[str, Any], expected: UserRequest | None) -> None:
    assert request_of(entry(**change)) == expected


def test_a_reader_follows_the_log_from_now_on_across_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    line = json.dumps(entry()) + "\n"
    log.write_text(line * 3)
    reader = AccessLogReader(log, "zoo/production")
    assert reader.by_release() == {}, "what happened before is no evidence"
    with log.open("a") as file:
        file.write(json.dumps(entry(start="1.000000")) + "\n")  # had begun before
        file.write(json.dumps(entry(cluster="zoo/staging/new")) + "\n")
        file.write(line + line[:20])
        file.flush()
        assert [len(r) for r in reader.by_release().values()] == [1]
        log.rename(tmp_path / "access.log.1")
        file.write(line[20:] + line)
    log.write_text(line + '{"cut off\n' + json.dumps(entry(cluster="zoo/production/old")) + "\n")
    found = reader.by_release()
    assert {name: len(requests) for name, requests in found.items()} == {"new": 4, "old": 1}


def test_a_reader_may_come_before_the_log(tmp_path: Path) -> None:
    reader = AccessLogReader(tmp_path / "access.log", "zoo/production")
    assert reader.by_release() == {}
    (tmp_path / "access.log").write_text(json.dumps(entry()) + "\n")
    assert len(reader.by_release()["new"]) == 1


def test_the_gateway_records_users_not_probes_and_continues_in_a_new_file_when_the_log_is_large(
    serving: LocalServing, model_file: Path, release: Callable[[str], Release], home: Path
) -> None:
    serving.deploy("demo", "production", release("first"), model_file)
    first = release("first").digest
    serving.route("demo", "production", {first: 1.0})
    url, users = serving.base_url("demo", "production"), serving.watch_users("demo", "production")

    def seen() -> int:
        return len(users.by_release().get(first, ()))

    ask_many(url, "demo", ["Hello"] * 4, headers=serving.candidate_headers(first), max_tokens=2)
    ask_many(url, "demo", ["Hello"] * 3, max_tokens=2)
    httpx.get(f"{url}/models", trust_env=False)
    wait_for("the users' requests", lambda: seen() == 3)
    assert all(r.ok and r.latency_s > 0 for r in users.by_release()[first])
    log = home / "serving" / "logs" / "access.log"
    with log.open("ab") as file:
        file.truncate(33 * 1024 * 1024)
    assert serving.ensure_running() == ()
    wait_for("a new log", lambda: log.exists() and log.stat().st_size < 1024 * 1024)
    ask_many(url, "demo", ["Hello"] * 2, max_tokens=2)
    wait_for("the users' requests", lambda: seen() == 5)
    text = log.read_text()
    assert "Hello" not in text and "127.0.0.1" not in text, "no content and no address of a client"
