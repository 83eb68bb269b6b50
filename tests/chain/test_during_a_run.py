"""What comes during a run, under the real daemon: many commits at once, one in the middle of a rollout, and a jump of
the wall clock.

Each test continues from the one before. Most commits differ only in the engine's context length: each is a new release
without a new training. Dagster's processes and the runs see a clock that the last tests set.
"""

import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from llmops_assets.domain.rollout import RolloutState
from resources.local_services import services
from tests.support.live import Live, Users
from tests.support.waiting import wait_for
from tests.support.wall_clock import COMPILER, Clock

BURST = 30
SLOW = {"rollout": {"steps": [{"weight": "20%", "hold": "2s"}, {"weight": "60%", "hold": "5s"}]}}
DAY, HOUR = 86_400, 3600
needs_clock = pytest.mark.skipif(COMPILER is None, reason="no C compiler, which the clock that can be set needs")


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock | None:
    return Clock(tmp_path_factory.mktemp("clock")) if COMPILER else None


@pytest.fixture(scope="module")
def live(start_live: Callable[..., Live], clock: Clock | None) -> Live:
    return start_live(**(clock.environment if clock else {}))


def context(tokens: int, **deployment: Any) -> dict[str, Any]:
    return {"deployment": {"serving": {"context_length": tokens}, **deployment}}


def test_the_newest_of_a_burst_of_commits_runs_and_every_other_is_named(live: Live) -> None:
    first = live.project.push()
    wait_for("a run in progress", lambda: live.worker(first))
    burst = []
    for number in range(BURST):
        live.project.configure(context(320 + 64 * number))
        burst.append(live.project.commit(f"Context {number}"))
        if number >= BURST // 2:
            live.project.push()
    newest = burst[-1]
    request = wait_for("the newest one's release", lambda: live.ended(newest), every_s=0.5)
    live.assert_production_serves_only(request)
    assert [(r.revision, r.status) for r in live.ledger.requests("zoo")] == [(first, "released"), (newest, "released")]
    assert len(live.instance.get_runs()) == 2
    [status] = json.loads(live.llmops("status", "--json"))
    said = status["requests"][-1]["reason"]
    assert f"includes {BURST - 1} earlier commits" in said
    assert [sha for sha in burst[:-1] if sha[:12] not in said] == []


def test_a_commit_in_mid_rollout_waits_until_the_older_one_is_promoted(live: Live) -> None:
    with Users(live) as users:
        older = live.project.ship("Released in two steps", context(256, **SLOW))
        wait_for("the second step", lambda: live.at_the_second_step(older))
        newer = live.project.ship("Newer", context(320))
        ended = wait_for("the older one's release", lambda: live.ended(older), every_s=0.5)
        live.assert_released(ended, 1)
        request = wait_for("the newer one's release", lambda: live.ended(newer), every_s=0.5)
    live.assert_production_serves_only(request)
    assert len(live.runs(request)) == 1
    users.assert_all_answered()


def test_a_commit_that_cancels_in_mid_rollout_has_the_older_one_returned_first(live: Live) -> None:
    before = live.ledger.serving("zoo", "production")
    assert before is not None
    with Users(live) as users:
        older = live.project.ship("Released in two steps again", context(384, **SLOW))
        wait_for("the second step", lambda: live.at_the_second_step(older))
        newer = live.project.ship("Newer, and in a hurry", {**context(448), "on_newer": "cancel"})
        ended = wait_for("the older one's end", lambda: live.ended(older), every_s=0.5)

        def returned_state() -> RolloutState | None:
            state = live.rollout_of(older)
            return state if state and state.status == "returned" else None

        returned = wait_for("its return", returned_state)
        request = wait_for("the newer one's release", lambda: live.ended(newer), every_s=0.5)
    assert (ended.status, ended.generation) == ("superseded", 1)
    assert returned.replaces == before.release
    assert [r.status for r in live.runs(ended)] == [dg.DagsterRunStatus.CANCELED]
    live.assert_production_serves_only(request)
    state = live.rollout_of(newer)
    assert state is not None and state.replaces == before.release, "what was returned never served"
    users.assert_all_answered()


def daemon(live: Live) -> int:
    return services.processes(live.settings)["dagster-daemon"].pid


def one_run(live: Live, sha: str) -> bool:
    return [[r.status for r in live.runs(q)] for q in live.requests(sha)] == [[dg.DagsterRunStatus.SUCCESS]]


@needs_clock
def test_a_day_forward_in_mid_training_ends_and_doubles_nothing(live: Live, clock: Clock) -> None:
    sha = live.project.ship("A longer training", {"training": {"max_steps": 200}, "on_newer": None})
    wait_for("training", lambda: live.training(at_least=5))
    clock.set(DAY)
    request = wait_for("the release", lambda: live.ended(sha), every_s=0.5)
    live.assert_released(request, 1)
    assert one_run(live, sha)
    events = live.ledger.events()
    assert events[-1]["at"] - events[0]["at"] > DAY, "the running processes saw the clock jump"


@needs_clock
def test_an_hour_back_in_mid_run_stops_nothing(live: Live, clock: Clock) -> None:
    """Dagster's loops measure intervals by the wall clock: its queue and all sensors were idle for the hour."""
    before = daemon(live)
    sha = live.project.ship("Another context", context(512))
    wait_for("a run in progress", lambda: live.worker(sha))
    clock.set(DAY - HOUR)
    wait_for("a daemon that knows the time", lambda: daemon(live) not in (0, before))
    live.project.write("tests/test_nothing_is_broken.py", "def test_two_and_one_are_three():\n    assert 2 + 1 == 3\n")
    live.project.commit("Another test")
    newer = live.project.push()
    request = wait_for("the release", lambda: live.ended(sha), every_s=0.5)
    live.assert_released(request, 1)
    assert [r.status for r in live.runs(request)] == [dg.DagsterRunStatus.SUCCESS]
    done = wait_for("the newer one's end", lambda: live.ended(newer), every_s=0.5)
    assert (done.status, done.generation) == ("done", 1)
    assert one_run(live, newer)
    assert live.ledger.verify_audit() > 0
