"""A decision is stored in the ledger together with its audit event, or not at all. On both databases."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, inspect, select, update

from llmops_assets.domain.approval import Ask, Choice, Decision
from llmops_assets.domain.requests import EVALUATION, ROLLBACK, Request
from llmops_assets.domain.rollback import Hold, NoTarget
from llmops_assets.domain.rollout import RolloutPolicy, RolloutState, begin
from resources.ledger import Conflict, Ledger, LedgerError
from resources.ledger import schema as tables
from tests.support.waiting import CEILING_S

A, B, C = "a" * 40, "b" * 40, "c" * 40
ONE, TWO = "1" * 64, "2" * 64


def said(choice: Choice = "approved", release: str = ONE) -> Decision:
    ask = Ask(project="zoo", release=release, reports=("x", "y"), replaces=None)
    return Decision(ask=ask, revision=A, choice=choice, by="eve@example.com", reason="because", at=1.5)


def waiting(ledger: Ledger, revision: str = A) -> Request:
    request = ledger.open_request("zoo", revision, 1, "prompt changed")
    ledger.claim(request, f"run-{revision[0]}")
    assert ledger.close(request, "waiting", "waiting for approval")
    return ledger.requests("zoo")[-1]


def statuses(ledger: Ledger) -> list[str]:
    return [r.status for r in ledger.requests("zoo")]


def hold(release: str = TWO) -> Hold:
    return Hold(project="zoo", release=release, reason="cut short", by="eve@example.com", since=0.0)


# -- waiting --------------------------------------------------------------------------------------------------------


def test_a_waiting_request_blocks_nothing_and_is_superseded_by_a_start(ledger: Ledger) -> None:
    waiting(ledger)
    ledger.open_request("zoo", B, 1, "README only", status="skipped")
    assert statuses(ledger) == ["waiting", "skipped"], "a noted commit brings no release of its own"
    ledger.open_request("zoo", C, 1, "prompt changed")
    assert statuses(ledger) == ["superseded", "skipped", "queued"]
    assert ledger.requests("zoo")[0].detail == f"a newer commit, {C[:12]}, has been planned since"


def test_a_rollback_leaves_what_waits_alone(ledger: Ledger) -> None:
    waiting(ledger)
    ledger.open_request("zoo", A, 2, "rollback", asked_by=ROLLBACK)
    assert statuses(ledger) == ["waiting", "queued"]


def test_a_run_of_another_branch_leaves_what_waits_alone(ledger: Ledger) -> None:
    """It deploys nothing, and yet the release that waited for an approval was given up in its favour."""
    waiting(ledger)
    ledger.open_request("zoo", B, 1, "requested by a person", asked_by=EVALUATION)
    assert statuses(ledger) == ["waiting", "queued"]


def test_what_waits_for_the_review_of_another_branch_is_replaced_by_its_own_commit_only(ledger: Ledger) -> None:
    """The next commit of the watched branch gave it up, although it could not replace what was asked."""
    ledger.open_request("zoo", A, 1, "requested by a person", status="waiting", asked_by=EVALUATION)
    ledger.close(ledger.open_request("zoo", B, 1, "prompt changed"), "done", "")
    assert statuses(ledger) == ["waiting", "done"]
    ledger.open_request("zoo", A, 2, "merged")
    assert statuses(ledger) == ["superseded", "done", "queued"]


def test_an_approved_request_resumes_in_its_next_generation_once(ledger: Ledger) -> None:
    request = waiting(ledger)
    again = ledger.next_generation(request, 2, "approved by eve@example.com: because")
    assert [(r.status, r.detail) for r in ledger.requests("zoo")] == [
        ("done", "approved by eve@example.com: because"),
        ("queued", ""),
    ]
    assert again.reason == "prompt changed (approved by eve@example.com: because)" and again.run_id is None
    with pytest.raises(Conflict):
        ledger.next_generation(request, 3, "approved by bob: me too")
    ledger.close(again, "waiting", "production changed")
    third = ledger.next_generation(ledger.requests("zoo")[-1], 3, "approved by bob: fine")
    assert third.reason == "prompt changed (approved by bob: fine)", "reasons do not pile up"


def test_what_was_approved_waits_for_the_active_run(ledger: Ledger) -> None:
    request = waiting(ledger)
    ledger.open_request("zoo", A, 2, "rollback", asked_by=ROLLBACK)
    with pytest.raises(Conflict):
        ledger.next_generation(request, 3, "approved by eve@example.com: because")
    assert statuses(ledger) == ["waiting", "queued"]


@pytest.mark.parametrize("status", ["cancelled", "superseded"])
def test_a_run_that_was_ended_does_no_further_stage(ledger: Ledger, status: Any) -> None:
    request = ledger.open_request("zoo", A, 1, "prompt changed")
    ledger.claim(request, "run-1")
    ledger.close(request, status, "a newer commit came")
    with pytest.raises(Conflict, match=f"run-1, {status}"):
        ledger.claim(request, "run-1")


# -- decisions ------------------------------------------------------------------------------------------------------


def test_decisions_come_back_in_order_with_all_that_they_are_bound_to(ledger: Ledger) -> None:
    ledger.decide(said())
    ledger.decide(said(release=TWO))
    ledger.decide(said("rejected"))
    assert ledger.decisions("zoo", ONE) == [said(), said("rejected")]
    assert ledger.decisions("farm", ONE) == []
    event = ledger.events()[0]
    assert (event["event"], event["by"], event["release"], event["reports"]) == (
        "approved", "eve@example.com", ONE, ["x", "y"],
    )  # fmt: skip
    assert ledger.verify_audit() == 3


def test_a_rejection_closes_what_waited_for_it_or_was_never_made(ledger: Ledger) -> None:
    request = waiting(ledger)
    ledger.decide(said("rejected"), request)
    assert ledger.requests("zoo")[0].detail == "rejected by eve@example.com: because"
    with pytest.raises(Conflict):
        ledger.decide(said("rejected"), request)
    assert statuses(ledger) == ["rejected"] and len(ledger.decisions("zoo", ONE)) == 1


# -- holds ----------------------------------------------------------------------------------------------------------


def test_a_rollback_serves_the_one_and_holds_the_other_until_somebody_lifts_it(ledger: Ledger, clock: Any) -> None:
    ledger.serve("zoo", "production", ONE, A)
    ledger.serve("zoo", "production", TWO, B)
    assert ledger.rollback_target("zoo", None) == (ONE, A)
    clock.now += 5
    ledger.roll_back("zoo", ONE, A, hold())
    serving = ledger.serving("zoo", "production")
    assert serving is not None and (serving.release, serving.since) == (ONE, clock.now)
    assert [str(h) for h in ledger.holds("zoo")] == [str(hold())] and ledger.holds("farm") == []
    assert ledger.hold_on("zoo", TWO) and not ledger.hold_on("zoo", ONE)
    with pytest.raises(NoTarget):
        ledger.rollback_target("zoo", None)
    assert ledger.lift("zoo", [ONE], "eve@example.com", "nothing") == []
    assert ledger.lift("zoo", [TWO], "eve@example.com", "fixed") == [TWO]
    assert ledger.holds("zoo") == [] == ledger.lift("zoo", [TWO], "eve@example.com", "again")
    assert [e["event"] for e in ledger.events()] == ["serves", "serves", "rolled back", "lifted"]


def promoted(ledger: Ledger, release: str, replaces: str | None) -> tuple[int, int, RolloutState]:
    """(id, version, next state) of a rollout that has answered well."""
    state = begin(release, replaces, RolloutPolicy())
    return (*ledger.begin_rollout("zoo", B, state), state.model_copy(update={"status": "promoted"}))


def test_a_promotion_and_the_new_champion_are_recorded_together_and_lift_all_holds(ledger: Ledger) -> None:
    ledger.serve("zoo", "production", ONE, A)
    ledger.roll_back("zoo", ONE, A, hold())
    request = ledger.open_request("zoo", B, 1, "prompt changed")
    ledger.promote(*promoted(ledger, "three", ONE), request, B, None)
    serving, found = ledger.serving("zoo", "production"), ledger.rollout("zoo")
    assert serving is not None and (serving.release, serving.revision) == ("three", B)
    assert found is not None and found[3].status == "promoted"
    assert ledger.holds("zoo") == [] and ledger.active_request("zoo") is not None
    assert [e["event"] for e in ledger.events()][-3:] == ["rollout promoted", "serves", "lifted"]


@pytest.mark.parametrize("first", ["cancelled", "changed"])
def test_nothing_is_promoted_once_the_request_is_closed_or_the_rollout_was_ended(ledger: Ledger, first: str) -> None:
    """A cancellation between the promotion and its record left the gateway and the ledger with different champions."""
    request = ledger.open_request("zoo", B, 1, "prompt changed")
    identity, version, state = promoted(ledger, TWO, None)
    if first == "cancelled":
        ledger.close(request, "cancelled", "by a person")
    else:
        ledger.save_rollout(identity, version, state.model_copy(update={"status": "returned"}))
    with pytest.raises(Conflict):
        ledger.promote(identity, version, state, request, B, None)
    assert ledger.serving("zoo", "production") is None
    assert "serves" not in [e["event"] for e in ledger.events()]


def test_a_rollback_is_done_in_the_moment_in_which_production_moves(ledger: Ledger) -> None:
    """A kill after that point reported it as interrupted, and the repetition went one release further back."""
    ledger.serve("zoo", "production", ONE, A)
    ledger.serve("zoo", "production", TWO, B)
    request = ledger.open_request("zoo", B, 2, "rollback", asked_by=ROLLBACK)
    ledger.promote(*promoted(ledger, ONE, TWO), request, A, hold())
    closed = ledger.requests("zoo")[-1]
    done = f"production rolled back from {TWO[:12]} to {ONE[:12]} (cut short); {TWO[:12]} is held"
    assert (closed.status, closed.detail) == ("done", done)
    assert [h.release for h in ledger.holds("zoo")] == [TWO]
    serving = ledger.serving("zoo", "production")
    assert serving is not None and serving.release == ONE
    with pytest.raises(NoTarget, match=r"nothing was changed now\. It served no earlier release"):
        ledger.rollback_target("zoo", None)


def test_what_other_systems_were_told_is_remembered(ledger: Ledger) -> None:
    assert ledger.projected("zoo", "alias") is None
    for value in (ONE, TWO):
        ledger.note_projected("zoo", "alias", value)
        assert ledger.projected("zoo", "alias") == value
    assert ledger.projected("farm", "alias") is None


def test_the_champion_came_when_another_release_left(ledger: Ledger, clock: Any) -> None:
    """A second commit with the same release is not a new champion; the same release after a rollback is."""
    assert ledger.champion_since("zoo") == (None, None)
    for release, revision in ((ONE, A), (ONE, B), (TWO, C)):
        ledger.serve("zoo", "production", release, revision)
        clock.now += 10
    assert ledger.champion_since("zoo") == (TWO, 1020.0)
    ledger.roll_back("zoo", ONE, A, hold())
    assert ledger.champion_since("zoo") == (ONE, 1030.0)


# -- an older ledger ------------------------------------------------------------------------------------------------

LATER_TABLES = (
    "approvals", "budget_decisions", "reviews", "holds", "tombstones", "projections", "notifications", "answers",
    "proposals",
)  # fmt: skip
"""Tables that version 1 did not have."""


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with sqlite3.connect(path) as c:
        names = [n for (n,) in c.execute("SELECT name FROM sqlite_master WHERE type = 'table'") if "sqlite" not in n]
        return {n: c.execute(f"SELECT * FROM {n}").fetchall() for n in names}


def test_a_ledger_of_version_1_is_taken_over_with_all_that_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as c:
        c.executescript(Path(__file__).with_name("ledger_v1.sql").read_text())
    before = rows(path)
    assert before["schema_version"] == [(1,)] and "approvals" not in before and len(before["audit"]) == 6
    ledger = Ledger(f"sqlite:///{path}")
    assert [(r.revision, r.status) for r in ledger.requests("zoo")] == [(A, "released"), (B, "queued")]
    assert ledger.verify_audit() == 6
    after = rows(path)
    assert after.pop("schema_version") == [(tables.SCHEMA_VERSION,)] and before.pop("schema_version")
    assert after["audit"][:-1] == before["audit"], "one event more: the digests of the rows that were taken over"
    before["audit"] = after["audit"]
    # Version 1 did not count tries: assume the first. Each request was of the whole chain, and named no model.
    before["requests"] = [(*row, 1, None, "") for row in before["requests"]]
    assert after == before | {name: [] for name in LATER_TABLES}
    ledger.decide(said())
    ledger.engine.dispose()
    again = Ledger(f"sqlite:///{path}")
    assert again.decisions("zoo", ONE) == [said()] and again.verify_audit() == 7
    again.engine.dispose()


def as_version_1(url: str) -> None:
    """Creates the schema of version 1: today's tables without the later ones, and without the later columns."""
    engine = create_engine(url)
    with engine.begin() as c:
        old = [t for t in tables.metadata.sorted_tables if t.name not in LATER_TABLES]
        tables.metadata.create_all(c, tables=old)
        for column in ("tries", "stages", "model"):
            c.exec_driver_sql(f"ALTER TABLE requests DROP COLUMN {column}")
        c.execute(insert(tables.schema).values(version=1))
    engine.dispose()


def test_many_processes_that_open_an_older_ledger_at_once_take_it_over_once(
    ledger_url: str, python: Callable[..., Any]
) -> None:
    as_version_1(ledger_url)
    code = "import sys\nfrom resources.ledger import Ledger\nprint(len(Ledger(sys.argv[1]).holds('zoo')))"
    started = [python(code, ledger_url) for _ in range(4)]
    assert [(p.communicate(timeout=CEILING_S)[0].strip(), p.returncode) for p in started] == [("0", 0)] * 4
    ledger = Ledger(ledger_url)
    with ledger.engine.begin() as c:
        assert c.execute(select(tables.schema.c.version)).scalars().all() == [tables.SCHEMA_VERSION]
    ledger.engine.dispose()


def test_a_newer_ledger_is_refused_and_left_as_it_is(ledger_url: str) -> None:
    as_version_1(ledger_url)
    engine, newer = create_engine(ledger_url), tables.SCHEMA_VERSION + 1
    with engine.begin() as c:
        c.execute(update(tables.schema).values(version=newer))
    with pytest.raises(LedgerError, match=rf"schema version {newer}, this code has {tables.SCHEMA_VERSION}; use"):
        Ledger(ledger_url).requests("zoo")
    assert not inspect(engine).has_table("approvals")
    engine.dispose()


def test_events_are_read_as_they_were_written(ledger: Ledger) -> None:
    ledger.open_request("zoo", A, 1, "first run")
    (event,) = ledger.events()
    assert (event["id"], event["event"], event["revision"]) == (1, "request", A)
    assert json.dumps(event)
