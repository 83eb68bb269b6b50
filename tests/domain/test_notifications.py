"""One change makes one event, and its message names the next command."""

from typing import Any

import pytest

from llmops_assets.domain.delivery_attempts import is_due, pause_s
from llmops_assets.domain.notification_baseline import Baseline
from llmops_assets.domain.notification_messages import next_command, summarize, title_of, write
from llmops_assets.domain.notifications import KINDS, Closing, Event, Rolled, derive, down_mark
from llmops_assets.domain.requests import ROLLBACK, Request, Status
from llmops_assets.domain.rollout import RolloutState

A, B = "a" * 40, "b" * 40


def closing(number: int, status: Status, detail: str = "because", **fields: Any) -> Closing:
    given = {"project": "zoo", "revision": A, "generation": 1, "reason": "tree changed", **fields}
    return Closing(id=number, request=Request(status=status, detail=detail, **given), at=100.0 + number)


def rolled(number: int, owner: str, *reasons: str, status: Any = "returned") -> Rolled:
    state = RolloutState(
        release="d" * 64, replaces="c" * 64, weights=(0.5,), status=status, reasons=reasons, owner=owner
    )
    return Rolled(id=number, revision=A, state=state, at=200.0 + number)


def kinds(*closings: Closing, rollouts: tuple[Rolled, ...] = ()) -> list[str]:
    return [event.kind for event in derive("zoo", closings, rollouts, {})]


def test_only_ends_that_concern_people_are_events() -> None:
    quiet: tuple[Status, ...] = ("queued", "running", "done", "cancelled", "superseded", "skipped")
    assert kinds(*(closing(n, status) for n, status in enumerate(quiet))) == []
    told: tuple[Status, ...] = ("rejected", "failed", "waiting", "released")
    assert kinds(*(closing(n, status) for n, status in enumerate(told))) == [*told]


def test_a_run_that_died_and_is_resumed_did_not_fail_but_one_that_a_person_retries_did() -> None:
    """Each generation that dies is closed as failed; only the last one is a failure that somebody has to look at."""
    died = closing(1, "failed", "generation 1 ended without an outcome", tries=1)
    resumed = closing(2, "released", generation=2, tries=2)
    retried = closing(2, "released", generation=2, tries=1)
    assert kinds(died, resumed) == ["released"]
    assert kinds(died, retried) == ["failed", "released"]


def test_a_candidate_that_its_canary_returned_is_one_event() -> None:
    """Its request is rejected too, with the same reasons."""
    returned = rolled(1, f"zoo:{A}", "at 50%: error_rate 40% above 5%", "at 50%: slow")
    request = closing(1, "rejected", "production_endpoint: at 50%: error_rate 40% above 5%; at 50%: slow")
    (event,) = derive("zoo", [request], [returned], {})
    assert (event.kind, event.detail) == ("returned", "at 50%: error_rate 40% above 5%; at 50%: slow")
    other = closing(2, "rejected", "evaluation_report: perplexity 9 above 5", generation=2)
    assert kinds(request, other, rollouts=(returned,)) == ["rejected", "returned"]


def test_a_rollback_is_one_event_whether_it_succeeds_or_not() -> None:
    done = closing(1, "done", "production rolled back from b to a (bad); b is held", asked_by=ROLLBACK)
    failed = closing(2, "failed", "the rollback failed, production is unchanged", asked_by=ROLLBACK, generation=2)
    events = derive("zoo", [done, failed], [rolled(1, failed.request.owner, "no answer")], {})
    assert [e.kind for e in events] == ["rolled_back", "failed"]
    assert all(e.revision is None for e in events), "a rollback has the revision of the last planned commit"
    assert [title_of(e) for e in events] == ["zoo: production was rolled back", "zoo: the rollback failed"]
    assert next_command(events[1]) == 'llmops rollback zoo --reason "WHY"'


@pytest.mark.parametrize("option", ["--release", "--report", "--budget"])
def test_the_command_of_what_waits_approves_exactly_that(option: str) -> None:
    """Of a report that waited for its review, the message did not say which."""
    said = f"waiting: decide with `llmops approve zoo {option} 0123456789ab --reason WHY` (or reject), or in Dagster's"
    (event,) = derive("zoo", [closing(1, "waiting", said)], [], {})
    command = f'llmops approve zoo {option} 0123456789ab --reason "WHY"'
    assert next_command(event) == f"{command}   (or: {command.replace('approve', 'reject')})"
    (vague,) = derive("zoo", [closing(1, "waiting", "waits")], [], {})
    assert next_command(vague).startswith('llmops approve zoo --reason "WHY"')


def test_keys_are_the_same_each_time_and_differ_between_events() -> None:
    closings = [closing(1, "rejected"), closing(2, "rejected", generation=2), closing(3, "waiting", revision=B)]
    rollouts = [rolled(1, "x", "a"), rolled(2, "x", "a")]
    down = {"production": down_mark("d" * 64, 5.0), "staging": down_mark("d" * 64, 5.0)}
    keys = [e.key for e in derive("zoo", closings, rollouts, down)]
    assert len(set(keys)) == len(keys) == 7
    assert sorted(e.key for e in derive("zoo", closings[::-1], rollouts[::-1], down)) == sorted(keys)
    again = derive("zoo", [], [], {"production": down_mark("d" * 64, 6.0)})
    assert again[0].key not in keys, "the next outage is another event"


def test_a_new_target_is_not_told_the_history_but_what_is_open() -> None:
    closings = [closing(1, "rejected"), closing(2, "waiting", generation=2), closing(3, "running", generation=3)]
    rollouts = [rolled(1, "x", "a"), rolled(2, "x", status="running")]
    baseline = Baseline.of(closings, rollouts)
    later = [*closings[:2], closing(3, "released", generation=3), closing(4, "failed", revision=B)]
    ended = [rollouts[0], rolled(2, "x", "slow"), rolled(3, "x", "slow")]
    told = [e.key for e in derive("zoo", later, ended, {}) if not baseline.covers(e)]
    assert told == [
        f"zoo:{A}:2:waiting", f"zoo:{A}:3:released", f"zoo:{B}:1:failed", "rollout:2:returned", "rollout:3:returned",
    ]  # fmt: skip


def test_messages_are_bounded_single_lined_and_say_when_they_are_late() -> None:
    event = Event(key="k", project="zoo", kind="rejected", at=0.0, detail="bad\x1b[31m\nline " + "x" * 9000, revision=A)
    message = write(event, "Fix\r\nBcc: everyone@example.com", "http://ui/runs/1", "http://git/commit/a")
    assert "\x1b" not in message.detail and "\n" not in message.detail and len(message.detail) < 1600
    assert "\n" not in message.title and "\n" not in (message.subject or "")
    assert "delayed" not in message.text(60.0) and "(delayed by 2 h)" in message.text(7200.0)
    assert message.text(1.0).splitlines()[-2:] == ["run: http://ui/runs/1", "commit page: http://git/commit/a"]


def test_every_kind_has_a_title_and_a_command() -> None:
    for kind in KINDS:
        event = Event(key="k", project="zoo", kind=kind, at=0.0, detail="d", revision=A, environment="production")
        assert title_of(event).startswith("zoo: ") and next_command(event).startswith("llmops ")


def test_a_summary_counts_what_was_left() -> None:
    closings = [closing(1, "rejected"), closing(2, "rejected", generation=2), closing(3, "waiting", revision=B)]
    left = [write(e) for e in derive("zoo", closings, [], {})]
    message = summarize("zoo", left, 86400.0, 9e5, "id")
    assert message.title == "zoo: 3 older notifications were not delivered"
    assert message.detail.startswith(
        "2 rejected, 1 waiting; between 1970-01-01 00:01:41 UTC and 1970-01-01 00:01:43 UTC"
    )
    assert "older than 1 d" in message.detail


def test_pauses_grow_up_to_a_bound_and_a_clock_that_was_set_back_stops_nothing() -> None:
    pauses = [pause_s(n) for n in (1, 2, 3, 8, 1000)]
    assert pauses == [5.0, 10.0, 20.0, 600.0, 600.0]
    assert is_due(10.0, 10.0) and not is_due(600.0, 10.0)
    assert is_due(86400.0, 10.0), "written by a clock that was a day ahead"
