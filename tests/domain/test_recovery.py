"""What has been started ends: with its outcome, by a newer commit, or by a bounded number of further runs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.domain.approval import Approved, Ask, Decision, Waiting
from llmops_assets.domain.recovery import LAUNCH_GRACE_S, MAX_TRIES, Again, Close, Leave, after_waiting, recover
from llmops_assets.domain.report_review import ReviewAsk, ReviewDecision, Reviewed
from llmops_assets.domain.requests import CLICK, EVALUATION, ROLLBACK
from tests.domain.test_requests import A, B, request

ASK = Ask(project="zoo", release="r", reports=(), replaces=None)
YES = Approved(decision=Decision(ask=ASK, revision=A, choice="approved", by="eve", reason="fine", at=1.0))


def test_what_was_approved_resumes_and_nothing_else_does() -> None:
    rows = [request(A, "waiting"), request(B, "skipped"), request(A, "done", 2, asked_by=ROLLBACK)]
    assert after_waiting(rows, rows[0], YES) == Again(generation=3, reason="approved by eve: fine")
    assert isinstance(after_waiting(rows, rows[0], Waiting()), Leave)


def test_what_was_reviewed_resumes_too_and_a_review_that_is_required_no_more_holds_nothing_up() -> None:
    given = ReviewDecision(
        ask=ReviewAsk(project="zoo", report="r", checkpoint="c"), revision=A, choice="approved", by="eve",
        reason="fine", at=1.0,
    )  # fmt: skip
    rows = [request(A, "waiting", detail="waiting for review of evaluation report r")]
    assert rows[0].waits_for_review and not request(A, "waiting", detail="waiting for approval").waits_for_review
    found = after_waiting(rows, rows[0], Reviewed(decisions=(given,)))
    assert found == Again(generation=2, reason="reviewed by eve: fine")
    assert after_waiting(rows, rows[0], Reviewed()) == Again(generation=2, reason="no review is required")


def test_a_branch_that_waits_for_review_is_not_replaced_by_the_watched_branch() -> None:
    rows = [request(A, "waiting", asked_by=EVALUATION), request(B, "released")]
    assert isinstance(after_waiting(rows, rows[0], Waiting()), Leave)
    assert isinstance(after_waiting(rows, rows[0], Reviewed()), Again)


def test_a_release_that_was_rejected_while_its_request_began_to_wait_ends() -> None:
    rows = [request(A, "waiting")]
    found = after_waiting(rows, rows[0], Waiting(reasons=("rejected by eve: no",), rejected=True))
    assert found == Close(status="rejected", detail="rejected by eve: no")


@pytest.mark.parametrize("found", [YES, Waiting()])
def test_a_waiting_request_is_superseded_by_a_newer_plan(found: Approved | Waiting) -> None:
    rows = [request(A, "waiting"), request(B, "rejected")]
    decision = after_waiting(rows, rows[0], found)
    assert isinstance(decision, Close) and decision.status == "superseded" and B[:12] in decision.detail


def test_a_rollout_by_a_click_is_resumed_by_nobody() -> None:
    found = recover(request(A, "running", 2, asked_by=CLICK), "failed", True)
    assert isinstance(found, Close) and found.status == "failed" and "materialize production_endpoint" in found.detail


def test_an_active_run_is_left_alone_however_old_it_is() -> None:
    assert isinstance(recover(request(status="running"), "active", True, 1e6), Leave)


def test_a_request_is_given_time_to_be_launched_and_then_started_again() -> None:
    """Dagster creates a run some seconds after the tick that requested it: an early retry would make two."""
    queued = request(status="queued")
    assert isinstance(recover(queued, "missing", True, LAUNCH_GRACE_S - 1), Leave)
    again = Again(generation=2, reason="generation 1 was never launched")
    assert recover(queued, "missing", True, LAUNCH_GRACE_S) == again


def test_a_run_that_died_resumes_under_the_next_generation() -> None:
    assert recover(request(status="running", generation=2), "failed", True) == Again(
        generation=3, reason="generation 2 ended without an outcome"
    )


@pytest.mark.parametrize("run", ["failed", "missing"])
def test_it_is_not_retried_forever(run: Any) -> None:
    last = request(status="running", generation=MAX_TRIES, tries=MAX_TRIES)
    found = recover(last, run, True, LAUNCH_GRACE_S)
    assert isinstance(found, Close) and found.status == "failed" and "llmops retry" in found.detail


def test_a_new_request_gets_as_many_tries_as_the_first() -> None:
    """When tries were counted by generation, a retry ended after its first crashed run."""
    retried = request(status="running", generation=MAX_TRIES + 1, tries=1)
    assert isinstance(recover(retried, "failed", True), Again)


@pytest.mark.parametrize("run", ["failed", "cancelled", "missing", "succeeded"])
def test_a_rollback_that_was_cut_off_is_not_repeated_by_itself(run: Any) -> None:
    running = request(status="running", generation=2, asked_by=ROLLBACK)
    found = recover(running, run, True, LAUNCH_GRACE_S)
    assert isinstance(found, Close) and found.status == "failed" and "llmops rollback" in found.detail
    assert isinstance(recover(running, "missing", True, 1.0), Leave)


def test_a_cancelled_run_stays_cancelled() -> None:
    found = recover(request(status="running"), "cancelled", True)
    assert isinstance(found, Close) and found.status == "cancelled"


def test_a_run_that_succeeded_without_deploying_is_done() -> None:
    found = recover(request(status="running"), "succeeded", False)
    assert isinstance(found, Close) and found.status == "done"


@pytest.mark.parametrize("run", ["failed", "missing"])
def test_a_dead_run_gives_way_to_a_newer_commit(run: Any) -> None:
    found = recover(request(status="running"), run, False, LAUNCH_GRACE_S)
    assert isinstance(found, Close) and found.status == "superseded"


@given(
    st.integers(1, 9), st.sampled_from(["missing", "active", "succeeded", "failed", "cancelled"]), st.booleans(),
    st.floats(0, 1e5),
)  # fmt: skip
def test_the_number_of_tries_is_bounded(tries: int, run: Any, newest: bool, missing: float) -> None:
    found = recover(request(status="running", generation=tries + 3, tries=tries), run, newest, missing)
    assert not isinstance(found, Again) or tries < MAX_TRIES


@pytest.mark.parametrize(("tries", "pause"), [(1, 0.0), (2, 15.0), (3, 60.0)])
def test_a_run_that_dies_again_is_resumed_less_and_less_soon(tries: int, pause: float) -> None:
    running = request(status="running", generation=tries, tries=tries)
    assert isinstance(recover(running, "failed", True, ended_s=pause), Again)
    assert isinstance(recover(running, "failed", True, ended_s=2.0, pauses_s=(2.0,)), Again), "as the settings say"
    if pause:
        found = recover(running, "failed", True, ended_s=pause - 5, why="fine_tuned_checkpoint: no route to host")
        assert isinstance(found, Leave)
        assert "no route to host" in found.reason and f"run {tries + 1} of at most 4 starts in 5 s" in found.reason


def test_a_clock_that_was_set_back_holds_up_no_resumption() -> None:
    running = request(status="running", generation=3, tries=3)
    assert isinstance(recover(running, "failed", True, ended_s=-3600.0), Again)


def test_a_request_that_is_given_up_names_the_last_error_and_who_is_not_to_blame() -> None:
    last = request(status="running", generation=MAX_TRIES, tries=MAX_TRIES)
    found = recover(last, "failed", True, ended_s=1.0, why="quantized_artifact: connection reset")
    assert isinstance(found, Close) and found.status == "failed"
    assert "quantized_artifact: connection reset" in found.detail and "not to blame" in found.detail
