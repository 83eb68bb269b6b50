"""Requests: opened, claimed, continued and closed."""

from typing import Any

import pytest

from llmops_assets.domain.requests import Request
from llmops_assets.domain.rollout import RolloutPolicy, begin
from resources.ledger import Conflict, Ledger
from tests.resources.ledger.examples import A, B, now, opened


def test_a_request_is_read_as_it_was_written(ledger: Ledger) -> None:
    written = ledger.open_request("zoo", A, 1, "because", asked_by="person", base=B)
    assert ledger.requests("zoo") == [written]
    assert ledger.requests("farm") == []


def test_a_request_is_found_by_its_name_as_it_is_now(ledger: Ledger) -> None:
    first = ledger.open_request("zoo", A, 1, "because")
    ledger.close(first, "failed", "no")
    again = ledger.open_request("zoo", A, 2, "once more")
    assert ledger.request(again.name) == again and ledger.now(first).detail == "no"
    for name in ("", "zoo", f"zoo:{A}:3", f"bear:{A}:1", f"zoo:{A}:first"):
        assert ledger.request(name) is None, name


def test_another_project_is_not_kept_waiting(ledger: Ledger) -> None:
    opened(ledger)
    ledger.open_request("farm", A, 1, "because")
    with pytest.raises(Conflict):
        opened(ledger, B)


def test_a_noted_commit_does_not_keep_others_waiting(ledger: Ledger) -> None:
    ledger.open_request("zoo", A, 1, "README only", status="skipped")
    opened(ledger, B)
    with pytest.raises(Conflict):
        ledger.open_request("zoo", A, 1, "README only", status="skipped")


def test_a_request_that_lost_leaves_nothing_behind(ledger: Ledger) -> None:
    """The request's row, its active slot and its audit event are one transaction."""
    opened(ledger)
    events = ledger.verify_audit()
    with pytest.raises(Conflict):
        opened(ledger, B)
    assert [r.revision for r in ledger.requests("zoo")] == [A] and ledger.verify_audit() == events


def test_the_first_outcome_stays(ledger: Ledger) -> None:
    request = opened(ledger)
    assert ledger.close(request, "rejected", "perplexity 50")
    assert not ledger.close(request, "done", "all is well")
    assert (now(ledger).status, now(ledger).detail) == ("rejected", "perplexity 50")
    opened(ledger, B)


def test_the_tries_are_counted_since_somebody_asked(ledger: Ledger) -> None:
    first = opened(ledger)
    second = ledger.next_generation(first, 2, "generation 1 ended without an outcome")
    assert (first.tries, second.tries, now(ledger).tries) == (1, 2, 2)
    ledger.close(second, "failed", "2 runs ended without an outcome")
    retried = ledger.open_request("zoo", A, 3, "retry of failed", asked_by="person")
    assert retried.tries == now(ledger).tries == 1
    ledger.close(retried, "waiting", "waiting for approval")
    approved = ledger.next_generation(now(ledger), 4, "approved by bo@example.com: fine")
    assert approved.tries == now(ledger).tries == 1


@pytest.mark.parametrize("jump", [86_400.0, -3600.0], ids=["a day forward", "an hour back"])
def test_what_came_last_is_what_came_last_whatever_the_clock_says(ledger: Ledger, clock: Any, jump: float) -> None:
    """After a jump back, the newer of two entries has the older time."""
    request = opened(ledger)
    ledger.serve("zoo", "production", "first", A)
    identity, version = ledger.begin_rollout("zoo", A, begin("first", None, RolloutPolicy()))
    clock.now += jump
    ledger.close(request, "released", "promoted")
    opened(ledger, B)
    ledger.serve("zoo", "production", "second", B)
    ledger.save_rollout(identity, version, begin("first", None, RolloutPolicy()))
    ledger.begin_rollout("zoo", B, begin("second", "first", RolloutPolicy()))
    assert [(r.revision, r.status) for r in ledger.requests("zoo")] == [(A, "released"), (B, "queued")]
    serving, rollout = ledger.serving("zoo", "production"), ledger.rollout("zoo")
    assert serving is not None and serving.release == "second"
    assert rollout is not None and rollout[3].release == "second"
    assert [release for release, _, _ in ledger.served("zoo")] == ["first", "second"]
    assert ledger.champion_since("zoo") == ("second", clock.now)
    assert ledger.rollback_target("zoo", None) == ("first", A)
    assert ledger.verify_audit() == len(ledger.events()) > 5
    with pytest.raises(Conflict):
        opened(ledger, A, 2)


def test_the_next_generation_ends_the_last_one_and_takes_its_place(ledger: Ledger) -> None:
    first = opened(ledger)
    ledger.claim(first, "run-1")
    second = ledger.next_generation(now(ledger), 2, "generation 1 ended without an outcome")
    assert [(r.generation, r.status) for r in ledger.requests("zoo")] == [(1, "failed"), (2, "queued")]
    assert now(ledger).run_id is None and now(ledger) == second
    third = ledger.next_generation(second, 3, "generation 2 ended without an outcome")
    assert third.reason == "training.epochs 1 → 2 (generation 2 ended without an outcome)", "reasons do not pile up"
    with pytest.raises(Conflict):
        ledger.next_generation(first, 2, "again")
    with pytest.raises(Conflict):
        opened(ledger, B)


def test_a_request_belongs_to_the_run_that_claimed_it(ledger: Ledger) -> None:
    request = opened(ledger)
    ledger.claim(request, "run-1")
    ledger.claim(request, "run-1")
    assert (now(ledger).status, now(ledger).run_id) == ("running", "run-1")
    with pytest.raises(Conflict, match="belongs to run run-1, running"):
        ledger.claim(request, "run-2")


def test_a_run_whose_request_has_its_outcome_may_still_end_its_work_but_no_other_run_may(ledger: Ledger) -> None:
    """The health check runs after the production stage, which has closed the request."""
    request = opened(ledger)
    ledger.claim(request, "run-1")
    ledger.close(request, "released", "release abc")
    ledger.claim(request, "run-1")
    assert now(ledger).status == "released"
    with pytest.raises(Conflict):
        ledger.claim(request, "run-2")


def test_a_cancelled_run_may_not_continue(ledger: Ledger) -> None:
    request = opened(ledger)
    ledger.claim(request, "run-1")
    ledger.close(request, "cancelled", "by ada")
    with pytest.raises(Conflict, match="run-1, cancelled"):
        ledger.claim(request, "run-1")


def test_a_request_that_nobody_opened_cannot_be_claimed(ledger: Ledger) -> None:
    ghost = Request(project="zoo", revision=A, generation=1, status="queued", reason="because")
    with pytest.raises(Conflict, match="belongs to no run: it is not in the ledger"):
        ledger.claim(ghost, "run-1")
