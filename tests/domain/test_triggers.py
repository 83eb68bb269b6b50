"""A schedule's time leads to one run of the newest released commit, and old data to one notice, whatever happens."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.domain.requests import DATA_AGE, SCHEDULE, Request, Skip, Status
from llmops_assets.domain.triggers import Due, Scheduled, at_schedule, next_scheduled, old_data

A, B = "a" * 40, "b" * 40
MONDAY, WEEK = 1_767_582_000.0, 7 * 86400.0


def due(at: float) -> Due:
    return at_schedule("'0 3 * * 1' (UTC)", at, rebuild="evaluation_report", since=MONDAY - 1)


DUE = due(MONDAY)


def request(status: Status = "released", revision: str = A, **fields: Any) -> Request:
    return Request(
        **{"project": "zoo", "generation": 1, "reason": "tree changed", **fields}, revision=revision, status=status
    )


def scheduled(due: Due, status: Status = "done", generation: int = 2, more: str = "") -> Request:
    return request(status, reason=due.reason + more, asked_by=SCHEDULE, generation=generation)


def test_the_newest_released_commit_runs_again_with_the_time_as_its_reason() -> None:
    found = next_scheduled([request()], [DUE])
    assert isinstance(found, Scheduled)
    assert (found.start.revision, found.start.generation, found.start.base) == (A, 2, A)
    assert found.start.reason == "schedule '0 3 * * 1' (UTC) of 2026-01-05 03:00:00 UTC: evaluation_report again"
    assert found.rebuild == ("evaluation_report",)


def test_a_time_that_has_its_request_is_not_due_again_whatever_became_of_it() -> None:
    statuses: tuple[Status, ...] = ("released", "done", "rejected", "failed", "cancelled", "superseded")
    for status in statuses:
        assert isinstance(next_scheduled([request(), scheduled(DUE, status)], [DUE]), Skip)
    resumed = scheduled(DUE, generation=3, more=" (generation 2 ended without an outcome)")
    assert isinstance(next_scheduled([request(), scheduled(DUE, "failed"), resumed], [DUE]), Skip)


def test_the_next_time_is_due_also_after_one_that_was_rejected() -> None:
    later = due(MONDAY + WEEK)
    found = next_scheduled([request(), scheduled(DUE, "rejected")], [later])
    assert isinstance(found, Scheduled) and found.start.generation == 3


def test_a_time_before_the_schedule_was_first_seen_is_not_its_own() -> None:
    assert isinstance(next_scheduled([request()], [DUE.model_copy(update={"since": MONDAY})]), Skip)


def test_it_waits_for_an_active_run_and_is_still_due_after_it() -> None:
    waits = next_scheduled([request(), request("running", B)], [DUE])
    assert isinstance(waits, Skip) and "waits for bbbbbbbbbbbb, which is running" in waits.reason
    found = next_scheduled([request(), request("released", B)], [DUE])
    assert isinstance(found, Scheduled) and found.start.revision == B


def test_a_commit_that_is_not_released_is_not_made_again() -> None:
    statuses: tuple[Status, ...] = ("rejected", "failed", "waiting")
    for status in statuses:
        found = next_scheduled([request("released"), request(status, B)], [DUE])
        assert isinstance(found, Skip) and f"is {status}" in found.reason
    assert isinstance(next_scheduled([], [DUE]), Skip)


def test_what_is_due_together_is_one_run() -> None:
    training = at_schedule("'0 0 1 * *' (UTC)", at=MONDAY + 5, rebuild="fine_tuned_checkpoint", since=0)
    found = next_scheduled([request()], [DUE, training])
    assert isinstance(found, Scheduled)
    assert found.rebuild == ("evaluation_report", "fine_tuned_checkpoint")
    both = request("done", reason=found.start.reason, asked_by=SCHEDULE, generation=2)
    assert isinstance(next_scheduled([request(), both], [DUE, training]), Skip)


@given(st.lists(st.floats(min_value=-2 * WEEK, max_value=8 * WEEK), max_size=40))
def test_each_time_leads_to_one_request_whatever_the_clock_does(moments: list[float]) -> None:
    """Ticks at any moments, in any order: late, early again after the clock was set back, or far apart."""
    requests = [request()]
    for moment in moments:
        occurred = MONDAY + (moment // WEEK) * WEEK
        found = next_scheduled(requests, [due(occurred)])
        if isinstance(found, Scheduled):
            start = found.start
            requests.append(request("done", reason=start.reason, asked_by=SCHEDULE, generation=start.generation))
    reasons = [r.reason for r in requests if r.asked_by == SCHEDULE]
    assert len(reasons) == len(set(reasons)) == len({m // WEEK for m in moments if m >= 0})


def test_old_data_is_told_once_a_version() -> None:
    now, month = MONDAY, 30 * 86400.0
    assert old_data([], "d" * 64, now - month, month, now) is None
    reason = old_data([], "d" * 64, now - month - 1, month, now)
    assert reason is not None and "2025-12-06" in reason and "older than 30 d" in reason
    told = request("skipped", reason=reason, asked_by=DATA_AGE, generation=2)
    assert old_data([told], "d" * 64, now - month - 1, month, now + 9) is None
    assert old_data([told], "e" * 64, now - month - 1, month, now) is not None


def test_a_notice_about_data_is_no_request_of_its_commit() -> None:
    told = request("skipped", reason="the data is old", asked_by=DATA_AGE, generation=2)
    found = next_scheduled([request(), told], [DUE])
    assert isinstance(found, Scheduled) and found.start.generation == 3
