"""Processes that die are restarted at once, exactly once, and unchanged.

A killed supervisor leaves its children behind; a new supervisor that ignores them would run everything twice, on the
same ports.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from llmops_assets.config.serving import ServingSettings
from llmops_assets.domain.records import Release
from resources.serving.client import Answer, ask, ask_many
from resources.serving.interface import ServingError
from resources.serving.local.serving import LocalServing
from tests.support.ports import free_port
from tests.support.waiting import CEILING_S, wait_for

MakeRelease = Callable[[str], Release]
Find = Callable[[Path], list[psutil.Process]]


@pytest.fixture
def url(serving: LocalServing, model_file: Path, release: MakeRelease) -> str:
    """The URL of a production endpoint that serves one release."""
    serving.deploy("demo", "production", release("first"), model_file)
    serving.route("demo", "production", {release("first").digest: 1.0})
    return serving.base_url("demo", "production")


def supervisor_pid(home: Path) -> int:
    return int((home / "serving" / "supervisord.pid").read_text())


def test_a_killed_engine_answers_again_by_itself_and_runs_once(
    serving: LocalServing, url: str, home: Path, engines: Find
) -> None:
    """The gateway holds a request to the dead engine until the engine is back, instead of failing it."""
    (engine,) = engines(home)
    engine.kill()
    engine.wait(CEILING_S)  # until then, it accepts requests and ends with them
    answer = ask(url, "demo", "Hello", max_tokens=4)
    assert answer.ok, answer.error
    (successor,) = engines(home)
    assert successor.pid != engine.pid
    for _ in range(15):
        assert [p.pid for p in engines(home)] == [successor.pid]
        time.sleep(0.1)
    assert serving.ensure_running() == (), "nothing was left to repair"


def test_an_answer_that_a_dying_engine_breaks_off_is_counted_as_broken(
    serving: LocalServing, url: str, home: Path, release: MakeRelease, engines: Find
) -> None:
    """Its status was 200 before it broke off: error codes alone would show a healthy release."""
    digest = release("first").digest
    answers: list[Answer] = []
    text = " ".join(["word"] * 50)
    request = threading.Thread(target=lambda: answers.extend(ask_many(url, "demo", [text] * 8, concurrency=8)))
    request.start()
    while not serving.traffic("demo", "production", digest).requests:  # counted at the end of an answer
        assert request.is_alive()
    engines(home)[0].kill()
    request.join()
    broken = [a for a in answers if a.broken]
    assert broken and all((a.ok, a.status) == (False, 200) for a in broken)
    assert serving.traffic("demo", "production", digest).broken >= len(broken)


def test_a_killed_gateway_comes_back(url: str, home: Path, processes: Find) -> None:
    next(p for p in processes(home) if p.name() == "envoy").kill()
    wait_for("an answer", lambda: ask(url, "demo", "Hello", max_tokens=4).ok)
    assert len([p for p in processes(home) if p.name() == "envoy"]) == 1


def test_a_killed_supervisor_leaves_nothing_that_then_runs_twice(
    serving: LocalServing, url: str, home: Path, engines: Find, processes: Find
) -> None:
    os.kill(supervisor_pid(home), signal.SIGKILL)
    assert ask(url, "demo", "Hello", max_tokens=4).ok, "its children serve on meanwhile"
    assert [e.status for e in serving.endpoints()] == ["degraded"], "but nobody would restart them"
    assert "supervisor" in serving.ensure_running()
    assert len(engines(home)) == 1
    assert len(processes(home)) == 3, "supervisor, gateway, engine"
    assert ask(url, "demo", "Hello", max_tokens=4).ok
    assert [e.status for e in serving.endpoints()] == ["serving"]


def test_a_supervisor_that_is_slow_to_answer_is_not_taken_for_a_dead_one(
    serving: LocalServing, url: str, home: Path, engines: Find
) -> None:
    """An asker whose call timed out ended all of production, and started it again."""
    before = [p.pid for p in engines(home)]
    port = int(url.split(":")[2].split("/")[0])
    impatient = LocalServing(home, ServingSettings(port=port), answer_timeout_s=0.5)
    os.kill(supervisor_pid(home), signal.SIGSTOP)
    try:
        with pytest.raises(ServingError, match=r"runs, but has not answered getState for 0\.5 s; its programs run on"):
            impatient.ensure_running()
        assert ask(url, "demo", "Hello", max_tokens=4).ok, "production is untouched"
        assert [e.status for e in impatient.endpoints()] == ["degraded"], "but nobody would restart it"
    finally:
        os.kill(supervisor_pid(home), signal.SIGCONT)
    assert impatient.ensure_running() == ()
    assert [p.pid for p in engines(home)] == before


def test_the_same_endpoints_are_back_after_everything_died_at_once(
    serving: LocalServing, url: str, home: Path, processes: Find
) -> None:
    before = serving.endpoints()
    for process in processes(home):
        process.kill()
    assert {e.status for e in serving.endpoints()} == {"down"}
    serving.ensure_running()
    assert ask(url, "demo", "Hello", max_tokens=4).ok
    assert serving.endpoints() == before


def test_an_engine_whose_port_was_taken_meanwhile_comes_back_on_another(
    serving: LocalServing, url: str, home: Path
) -> None:
    serving.down()
    port = json.loads((home / "serving" / "state.json").read_text())["replicas"][0]["spec"]["port"]
    squatter = subprocess.Popen([sys.executable, "-m", "http.server", "-b", "127.0.0.1", str(port)])
    try:
        wait_for("its listening", lambda: psutil.Process(squatter.pid).net_connections("tcp"))
        serving.ensure_running()
        assert ask(url, "demo", "Hello", max_tokens=4).ok
    finally:
        squatter.kill()
        squatter.wait()


def test_another_port_in_the_settings_moves_the_gateway_and_no_engine(
    serving: LocalServing, url: str, home: Path, engines: Find
) -> None:
    before = [p.pid for p in engines(home)]
    moved = LocalServing(home, ServingSettings(port=free_port()))
    assert moved.ensure_running() == ("gateway",)
    assert ask(moved.base_url("demo", "production"), "demo", "Hello", max_tokens=4).ok
    assert not ask(url, "demo", "Hello", max_tokens=4).ok
    assert [p.pid for p in engines(home)] == before


def test_a_state_that_cannot_be_read_is_not_taken_for_an_empty_one(
    serving: LocalServing, url: str, home: Path, engines: Find
) -> None:
    """If it were taken for an empty state, every engine would be stopped."""
    state = home / "serving" / "state.json"
    whole = state.read_text()
    state.write_text(whole[:100])
    with pytest.raises(ServingError, match="not a valid serving state"):
        serving.ensure_running()
    assert len(engines(home)) == 1
    state.write_text(whole)
