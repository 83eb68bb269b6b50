"""Commits that arrive during another's run, under the real daemon: many at once, and one in the middle of a rollout.

Each test continues from the one before. The commits differ only in the engine's context length: each is a new release
without a new training.
"""

import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from llmops_assets.domain.requests import Request
from llmops_assets.domain.rollout import RolloutState
from tests.support.live import Live, Users
from tests.support.waiting import wait_for

BURST = 30
SLOW = {"rollout": {"steps": [{"weight": "20%", "hold": "2s"}, {"weight": "60%", "hold": "5s"}]}}


@pytest.fixture(scope="module")
def live(start_live: Callable[..., Live]) -> Live:
    return start_live()


def context(tokens: int, **deployment: Any) -> dict[str, Any]:
    return {"deployment": {"serving": {"context_length": tokens}, **deployment}}


def rollout_of(live: Live, sha: str) -> RolloutState | None:
    found = live.ledger.rollout("zoo")
    return found[3] if found and found[2] == sha else None


def at_the_second_step(live: Live, sha: str) -> bool:
    state = rollout_of(live, sha)
    return state is not None and state.step == 1


def assert_production_serves_only(live: Live, request: Request) -> None:
    assert request.status == "released", request
    state = rollout_of(live, request.revision)
    assert state is not None and state.status == "promoted"
    assert live.clients.serving.weights("zoo", "production") == {state.release: 1.0}
    assert live.clients.serving.deployed("zoo", "production") == (state.release,)
    assert live.ask().release == state.release


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
    assert_production_serves_only(live, request)
    assert [(r.revision, r.status) for r in live.ledger.requests("zoo")] == [(first, "released"), (newest, "released")]
    assert len(live.instance.get_runs()) == 2
    [status] = json.loads(live.llmops("status", "--json"))
    said = status["requests"][-1]["reason"]
    assert f"includes {BURST - 1} earlier commits" in said
    assert [sha for sha in burst[:-1] if sha[:12] not in said] == []


def test_a_commit_in_mid_rollout_waits_until_the_older_one_is_promoted(live: Live) -> None:
    with Users(live) as users:
        older = live.project.ship("Released in two steps", context(256, **SLOW))
        wait_for("the second step", lambda: at_the_second_step(live, older))
        newer = live.project.ship("Newer", context(320))
        ended = wait_for("the older one's release", lambda: live.ended(older), every_s=0.5)
        assert (ended.status, ended.generation) == ("released", 1)
        request = wait_for("the newer one's release", lambda: live.ended(newer), every_s=0.5)
    assert_production_serves_only(live, request)
    assert len(live.runs(request)) == 1
    users.assert_all_answered()


def test_a_commit_that_cancels_in_mid_rollout_has_the_older_one_returned_first(live: Live) -> None:
    before = live.ledger.serving("zoo", "production")
    assert before is not None
    with Users(live) as users:
        older = live.project.ship("Released in two steps again", context(384, **SLOW))
        wait_for("the second step", lambda: at_the_second_step(live, older))
        newer = live.project.ship("Newer, and in a hurry", {**context(448), "on_newer": "cancel"})
        ended = wait_for("the older one's end", lambda: live.ended(older), every_s=0.5)

        def returned_state() -> RolloutState | None:
            state = rollout_of(live, older)
            return state if state and state.status == "returned" else None

        returned = wait_for("its return", returned_state)
        request = wait_for("the newer one's release", lambda: live.ended(newer), every_s=0.5)
    assert (ended.status, ended.generation) == ("superseded", 1)
    assert returned.replaces == before.release
    assert [r.status for r in live.runs(ended)] == [dg.DagsterRunStatus.CANCELED]
    assert_production_serves_only(live, request)
    state = rollout_of(live, newer)
    assert state is not None and state.replaces == before.release, "what was returned never served"
    users.assert_all_answered()
