"""The ledger decides races, on both databases and with real processes: each change becomes one run."""

import json
import multiprocessing
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from llmops_assets.domain.records import CiReport, Release
from llmops_assets.domain.requests import Request
from llmops_assets.domain.rollout import Judgement, RolloutPolicy, advance, begin
from llmops_assets.domain.verdict import Verdict
from resources.ledger import Conflict, Ledger, LedgerError
from resources.ledger import schema as tables
from resources.ledger.backup import copy_ledger
from tests.support.records import VALUES, Memory, made_by
from tests.support.waiting import CEILING_S, wait_for

PROCESSES, ROUNDS = 6, 20
A, B = "a" * 40, "b" * 40


# -- races between processes ----------------------------------------------------------------------------------------


ONE_WINS = ("same request", "any request", "next generation", "claim", "close", "rollout")
ALL_ADOPT = ("commit", "pin")
ALL_WRITE = ("own request",)


def _rival(url: str, who: int, barrier: Barrier, answers: Any) -> None:
    """Does the same as its rivals at the same moment, round after round; puts each round's result into the queue."""
    rounds = [(action, n) for action in (*ALL_WRITE, *ONE_WINS, *ALL_ADOPT) for n in range(ROUNDS)]
    try:
        barrier.wait(CEILING_S)
        ledger = Ledger(url).patient(CEILING_S)  # opens it; a busy machine's disk serves some of them late
        answers.put([(action, n, _attempt(ledger, action, who, n, barrier)) for action, n in rounds])
    except Exception as error:
        barrier.abort()
        answers.put(repr(error))


def _attempt(ledger: Ledger, action: str, who: int, number: int, barrier: Barrier) -> str | None:
    project = f"{action} {number}"
    barrier.wait(CEILING_S)
    try:
        if action == "own request":
            ledger.open_request(f"{project} {who}", A, 1, "nobody is in the way")
        elif action == "same request":
            ledger.open_request(project, A, 1, f"by {who}")
        elif action == "any request":
            ledger.open_request(project, f"{who}" * 40, 1, f"by {who}")
        elif action == "next generation":
            if who == 0:
                ledger.open_request(project, A, 1, "first")
            barrier.wait(CEILING_S)
            ledger.next_generation(ledger.requests(project)[-1], 2, "it died")
        elif action == "claim":
            if who == 0:
                ledger.open_request(project, A, 1, "first")
            barrier.wait(CEILING_S)
            ledger.claim(ledger.requests(project)[-1], f"run-{who}")
        elif action == "close":
            if who == 0:
                ledger.open_request(project, A, 1, "first")
            barrier.wait(CEILING_S)
            return f"{who}" if ledger.close(ledger.requests(project)[-1], "failed", f"by {who}") else None
        elif action == "commit":
            return ledger.commit(
                CiReport(key=f"key-{number}", made_by=made_by(f"revision-{who}"), checks=())
            ).made_by.revision
        elif action == "pin":
            return ledger.pin("run", project, f"revision-{who}")
        elif action == "rollout":
            state = begin("new", "old", RolloutPolicy())
            if who == 0:
                ledger.begin_rollout(project, A, state)
            barrier.wait(CEILING_S)
            found = ledger.rollout(project)
            assert found is not None
            barrier.wait(CEILING_S)
            ledger.save_rollout(found[0], found[1], state.model_copy(update={"requests": who}))
    except Conflict:
        return None
    return str(who)


@dataclass
class Race:
    """The results of all rivals without a `Conflict`, for each action and round, and the resulting ledger."""

    answers: dict[tuple[str, int], list[str]]
    ledger: Ledger

    def rounds(self, action: str) -> list[list[str]]:
        return [self.answers[action, n] for n in range(ROUNDS)]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def race(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Race]:
    """Six processes that open a ledger which does not exist yet, and run all actions concurrently."""
    url = request.getfixturevalue("new_ledger_url")(request.param, tmp_path_factory.mktemp("race"))
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(PROCESSES), context.Queue()
    rivals = [context.Process(target=_rival, args=(url, n, barrier, queue)) for n in range(PROCESSES)]
    for rival in rivals:
        rival.start()
    answers: dict[tuple[str, int], list[str]] = {}
    for _ in rivals:
        found = queue.get(timeout=CEILING_S)
        assert not isinstance(found, str), found
        for action, number, answer in found:
            answers.setdefault((action, number), []).extend([answer] if answer is not None else [])
    for rival in rivals:
        rival.join()
    ledger = Ledger(url)
    yield Race(answers, ledger)
    ledger.engine.dispose()


@pytest.mark.parametrize("action", ONE_WINS)
def test_exactly_one_of_many_concurrent_requests_is_opened(race: Race, action: str) -> None:
    assert [len(winners) for winners in race.rounds(action)] == [1] * ROUNDS
    for number in range(ROUNDS):
        requests = race.ledger.requests(f"{action} {number}")
        assert sum(r.active for r in requests) == (0 if action in ("close", "rollout") else 1)
        assert len(requests) == {"next generation": 2, "rollout": 0}.get(action, 1)


@pytest.mark.parametrize("action", ALL_ADOPT)
def test_the_first_of_many_concurrent_commits_wins_and_the_others_adopt_it(race: Race, action: str) -> None:
    """Otherwise two steps of one run could use two revisions, and deploy a mixture of both."""
    for answers in race.rounds(action):
        assert len(answers) == PROCESSES and len(set(answers)) == 1


def test_the_chain_of_events_is_complete_after_concurrent_writes(race: Race) -> None:
    """Two events with the same predecessor would permanently look like an altered chain."""
    assert [len(rivals) for rivals in race.rounds("own request")] == [PROCESSES] * ROUNDS
    assert race.ledger.verify_audit() >= PROCESSES * ROUNDS


# -- requests -------------------------------------------------------------------------------------------------------


def opened(ledger: Ledger, revision: str = A, generation: int = 1) -> Request:
    return ledger.open_request("zoo", revision, generation, "training.epochs 1 → 2")


def now(ledger: Ledger) -> Request:
    return ledger.requests("zoo")[-1]


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


# -- records and lineage --------------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_committed(ledger: Ledger) -> None:
    for record in Memory().deliver(VALUES).records.values():
        assert ledger.find(record.key) is None
        assert ledger.commit(record) == record == ledger.find(record.key)


def test_a_forgotten_record_is_made_again(ledger: Ledger) -> None:
    record = Memory().deliver(VALUES).records["ci_report"]
    ledger.commit(record)
    ledger.forget(record.key, "it is damaged")
    assert ledger.find(record.key) is None
    again = record.model_copy(update={"made_by": made_by("r2")})
    assert ledger.commit(again).made_by.revision == "r2"


def test_the_newest_rebuild_of_a_key_counts(ledger: Ledger, clock: Any) -> None:
    assert ledger.salt_of("key") is None
    ledger.rebuild("key", "faulty GPU")
    first = ledger.salt_of("key")
    clock.now += 1
    ledger.rebuild("key", "faulty GPU")
    assert first and first.startswith("faulty GPU") and ledger.salt_of("key") not in (None, first)


def test_a_revision_finds_what_it_uses_made_or_reused(ledger: Ledger) -> None:
    record = Memory().deliver(VALUES, "r1").records["ci_report"]
    ledger.commit(record)
    ledger.record_use("zoo", A, record, reused=False)
    ledger.record_use("zoo", B, record, reused=True)
    assert ledger.records_of("zoo", B) == {"ci_report": record} == ledger.records_of("zoo", A)
    assert [ledger.edges("zoo", r)["ci_report"].reused for r in (A, B)] == [False, True]
    newer = record.model_copy(update={"key": "newer"})
    ledger.commit(newer)
    ledger.record_use("zoo", B, newer, reused=False)
    assert ledger.records_of("zoo", B) == {"ci_report": newer}
    assert ledger.records_of("farm", B) == {}


def test_verdicts_are_kept_in_order_with_all_their_reasons(ledger: Ledger) -> None:
    found = [Verdict(subject="it", report="d", champion=None, failures=f) for f in ((), ("bleu 0.1", "rougeL 0.2"))]
    for verdict in found:
        ledger.add_verdict("zoo", A, "registered_model", verdict)
    assert ledger.verdicts("zoo", A) == [("registered_model", v) for v in found]
    assert ledger.verdicts("zoo", B) == []


def test_a_report_shows_the_verdict_of_its_own_commit_else_the_newest(ledger: Ledger) -> None:
    """A commit that reused a report showed the verdict of another commit's gates as its own."""

    def judged(**fields: Any) -> Verdict:
        return Verdict(
            **{"subject": "it", "report": "d", "champion": None, "check": "evaluation_report:gates", **fields}
        )

    first, newest = judged(), judged(failures=("too bad",))
    for revision, verdict in ((A, first), (B, newest), (B, judged(report="e")), (B, judged(check="it:evidence"))):
        ledger.add_verdict("zoo", revision, "production_endpoint", verdict)
    ledger.add_verdict("farm", A, "production_endpoint", judged(failures=("of another project",)))

    def shown(revision: str, report: str = "d") -> tuple[str, str, Verdict] | None:
        return ledger.verdict_on("zoo", "evaluation_report:gates", report, revision)

    assert shown(A) == (A, "production_endpoint", first)
    assert shown(B) == shown("c" * 40) == (B, "production_endpoint", newest)
    assert shown(A, report="f") is None


# -- releases and servings ------------------------------------------------------------------------------------------


def release(artifact: str = "a" * 64) -> Release:
    return Release(
        project="zoo",
        artifact_digest=artifact,
        artifact_uri="store/a",
        file="m.gguf",
        chat_template="t",
        engine="llama.cpp",
    )


def test_a_release_keeps_its_first_author_and_is_found_by_a_prefix(ledger: Ledger) -> None:
    one, other = release(), release("b" * 64)
    ledger.add_release(one, A)
    ledger.add_release(one, B)
    ledger.add_release(other, B)
    assert ledger.release(one.digest[:12]) == one and ledger.release("") is None, "two are no answer"
    assert ledger.revision_of_release("zoo", one.digest[:12]) == (A, one.digest)
    assert ledger.revision_of_release("farm", one.digest[:12]) is None
    assert ledger.revision_of_release("zoo", one.digest[:5]) is None, "too short to be meant"


def test_an_environment_serves_what_came_last_and_remembers_what_it_served(ledger: Ledger, clock: Any) -> None:
    assert ledger.serving("zoo", "production") is None
    ledger.serve("zoo", "production", "one", A)
    clock.now += 10
    ledger.serve("zoo", "production", "one", A)
    serving = ledger.serving("zoo", "production")
    assert serving is not None and (serving.release, serving.since) == ("one", 1000.0), "the same again is no event"
    ledger.serve("zoo", "production", "two", B)
    ledger.serve("zoo", "staging", "three", B)
    serving = ledger.serving("zoo", "production")
    assert serving is not None and (serving.release, serving.revision) == ("two", B)
    assert ledger.has_served("zoo", "one") and not ledger.has_served("zoo", "three")
    assert ledger.has_served("zoo", "three", "staging") and not ledger.has_served("farm", "one")


def test_a_rollout_that_was_moved_by_somebody_else_is_not_moved_again(ledger: Ledger) -> None:
    state = begin("new", "old", RolloutPolicy())
    identity, version = ledger.begin_rollout("zoo", A, state)
    moved = advance(state, Judgement(status="passed", answers=59))
    assert ledger.save_rollout(identity, version, moved) == version + 1
    with pytest.raises(Conflict, match="changed by another run"):
        ledger.save_rollout(identity, version, moved)
    assert ledger.rollout("zoo") == (identity, version + 1, A, moved)
    assert ledger.rollout("farm") is None


# -- audit ----------------------------------------------------------------------------------------------------------


def test_an_altered_event_is_noticed(ledger: Ledger) -> None:
    for revision in (A, B):
        ledger.close(opened(ledger, revision), "done", "all is well")
    assert ledger.verify_audit() == 4
    audit = tables.audit
    with ledger.engine.begin() as c:
        c.execute(update(audit).where(audit.c.id == 2).values(event=json.dumps({"event": "nothing happened"})))
    with pytest.raises(LedgerError, match="audit event 2 was altered"):
        ledger.verify_audit()


def test_a_removed_event_is_noticed(ledger: Ledger) -> None:
    for revision in (A, B):
        ledger.close(opened(ledger, revision), "done", "all is well")
    with ledger.engine.begin() as c:
        c.execute(delete(tables.audit).where(tables.audit.c.id == 2))
    with pytest.raises(LedgerError, match="audit event 3 was altered, or the one before it removed"):
        ledger.verify_audit()


# -- opening --------------------------------------------------------------------------------------------------------


def test_constructing_one_does_no_io(tmp_path: Path) -> None:
    Ledger(f"sqlite:///{tmp_path / 'home' / 'ledger.sqlite'}")
    assert list(tmp_path.iterdir()) == []


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    """Sensor ticks and the command line read while a run commits; SQLite has a single lock, which the writer holds."""
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(f"sqlite:///{path}")
    opened(ledger)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE requests SET detail = 'half done'")
    reader = sqlite3.connect(path, timeout=0)
    assert reader.execute("SELECT count(*) FROM requests").fetchone() == (1,)
    assert [r.detail for r in ledger.requests("zoo")] == [""]
    writer.execute("ROLLBACK")
    writer.close()
    reader.close()
    ledger.engine.dispose()


def test_what_a_killed_process_had_not_committed_never_happened(tmp_path: Path, python: Callable[..., Any]) -> None:
    path, ready = tmp_path / "ledger.sqlite", tmp_path / "ready"
    ledger = Ledger(f"sqlite:///{path}")
    request = opened(ledger)
    code = (
        "import sys, time, pathlib\nfrom sqlalchemy import update\nfrom resources.ledger import schema as t\n"
        "from resources.ledger import Ledger\n"
        "with Ledger(sys.argv[1]).engine.begin() as c:\n"
        "    c.execute(update(t.requests).values(status='released'))\n"
        "    pathlib.Path(sys.argv[2]).touch()\n"
        "    time.sleep(600)\n"
    )
    process = python(code, f"sqlite:///{path}", str(ready))
    wait_for("its change", ready.exists)
    process.kill()
    process.wait()
    assert now(ledger).status == "queued"
    assert ledger.close(request, "done", "written at once, not after a timeout")
    ledger.engine.dispose()


def test_a_row_that_cannot_be_read_is_named_and_no_stack_trace(ledger: Ledger) -> None:
    """A damaged or altered row ended every tick and command with pydantic's or JSON's own error."""
    ledger.add_verdict("zoo", "a" * 40, "staging_endpoint", Verdict(subject="x", report=None, champion=None))
    ledger.rebuild("k", "a test")
    with ledger.engine.begin() as c:
        c.exec_driver_sql("UPDATE verdicts SET body = '{\"subject\": [1'")
        c.exec_driver_sql("UPDATE audit SET event = '[1, 2]'")
    with pytest.raises(LedgerError, match=r"holds a Verdict that cannot be read \(Invalid JSON"):
        ledger.verdicts("zoo", "a" * 40)
    with pytest.raises(LedgerError, match="audit event 1 was altered: expected a JSON object"):
        ledger.events()


# -- backup ---------------------------------------------------------------------------------------------------------


def test_a_copy_holds_everything_that_was_committed_on_both_databases(
    ledger: Ledger, ledger_url: str, tmp_path: Path
) -> None:
    """On PostgreSQL it is a dump, made with the client tools of the machine."""
    ledger.open_request("zoo", A, 1, "copied")
    if ledger_url.startswith("postgresql") and shutil.which("pg_dump") is None:
        pytest.skip("pg_dump is not installed")
    (tmp_path / "copy").mkdir()
    name = copy_ledger(ledger_url, tmp_path / "copy")
    if name == "ledger.sqlite":
        copied = Ledger(f"sqlite:///{tmp_path / 'copy' / name}")
        assert [r.reason for r in copied.requests("zoo")] == ["copied"]
        assert copied.verify_audit() == 1
        copied.engine.dispose()
    else:
        assert (tmp_path / "copy" / name).read_bytes().startswith(b"PGDMP")
