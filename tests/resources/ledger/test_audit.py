"""The audit trail covers every row that acts: whatever is changed past the ledger's own code is named.

The trail was a chain of events that nothing connected with the tables that decide: an approval added by plain SQL
released a model, and `llmops audit` called the chain intact.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from llmops_assets.domain.audit import AuditHead
from llmops_assets.domain.budget import BudgetAsk, BudgetDecision
from llmops_assets.domain.chain import STAGES
from llmops_assets.domain.notification_messages import Message
from llmops_assets.domain.records import Release
from llmops_assets.domain.report_review import ReviewAsk, ReviewDecision
from llmops_assets.domain.rollout import RolloutPolicy, begin
from llmops_assets.domain.verdict import Verdict
from resources.ledger import Ledger, schema
from resources.ledger.row_digests import covered_tables
from tests.resources.ledger.test_ledger_decisions import as_version_1, hold, said
from tests.support.records import VALUES, make_record
from tests.support.waiting import CEILING_S

A, B = "a" * 40, "b" * 40
ONE, TWO = "1" * 64, "2" * 64
REPORT = make_record(STAGES["ci_report"], "k" * 64, {}, VALUES, A)
RELEASE = Release(
    project="zoo",
    artifact_digest="d",
    artifact_uri="store/d",
    file="m.gguf",
    chat_template="",
    engine="llama.cpp",
    serving={},
)


def fill(ledger: Ledger) -> None:
    """Writes at least one row to every table, some of them twice."""
    request = ledger.open_request("zoo", A, 1, "first run")
    ledger.claim(request, "run-1")
    ledger.pin("run-1", "zoo", A)
    record = ledger.commit(REPORT)
    ledger.record_use("zoo", A, record, False)
    ledger.record_use("zoo", A, record, True)
    ledger.rebuild("some key", "because")
    ledger.add_release(RELEASE, A)
    ledger.add_verdict("zoo", A, "registered_model", Verdict(subject="x", report="r", champion=None))
    identity, version = ledger.begin_rollout("zoo", A, begin(ONE, None, RolloutPolicy()))
    ledger.save_rollout(identity, version, begin(ONE, None, RolloutPolicy()))
    ledger.serve("zoo", "production", ONE, A)
    ledger.decide(said())
    ask = ReviewAsk(project="zoo", report="r", checkpoint="c")
    ledger.review(ReviewDecision(ask=ask, revision=A, choice="approved", by="eve@example.com", reason="good", at=1.5))
    asked = BudgetAsk(project="zoo", revision=A, over=("run",), cost=None)
    ledger.decide_budget(BudgetDecision(ask=asked, choice="approved", by="eve@example.com", reason="good", at=1.5))
    ledger.enqueue(
        "team", [Message(id="1", project="zoo", kind="released", at=1.5, title="t", detail="d", command="c")]
    )
    answer = ledger.claim_answer("zoo", "github:o/n", "check/a/ci", None, 1.5)
    assert answer is not None
    ledger.note_answer(answer, "d", "1")
    ledger.roll_back("zoo", ONE, A, hold())
    ledger.note_projected("zoo", "champion alias", ONE)
    ledger.bury([(ledger.inventory().results[0], 10)], "old")
    assert ledger.begin_proposal("zoo", "import data/train.jsonl", 1, "state", 1.5) is not None


def plainly(ledger: Ledger, statement: str, **values: Any) -> None:
    """Changes the ledger as somebody does who has its password, or the file."""
    with ledger.engine.begin() as c:
        assert c.execute(text(statement), values).rowcount >= 1, statement


TABLES = [table.name for table in covered_tables()]


def test_what_the_ledger_itself_writes_is_covered(ledger: Ledger) -> None:
    fill(ledger)
    report = ledger.audit()
    assert report.findings == () and report.taken_over == {}
    with ledger.engine.connect() as c:
        rows = {t: c.execute(text(f"SELECT count(*) FROM {t}")).scalar_one() for t in TABLES}
    assert all(rows.values()), f"this test must write to every table: {rows}"
    assert report.covered == sum(rows.values())


@pytest.mark.parametrize("table", TABLES)
def test_a_row_that_was_altered_removed_or_added_is_named(ledger: Ledger, table: str) -> None:
    """A table that nobody thought of would be the one that is changed: all that exist are tried."""
    fill(ledger)
    keys = [column.name for column in schema.metadata.tables[table].primary_key]
    with ledger.engine.connect() as c:
        whole = dict(c.execute(text(f"SELECT * FROM {table}")).mappings().first() or {})
    others = [name for name in whole if name not in keys]
    this = " AND ".join(f"{key} = :{key}" for key in keys)
    key = {name: whole[name] for name in keys}

    column = "body" if "body" in others else [name for name in others if whole[name] is not None][-1]
    plainly(ledger, f"UPDATE {table} SET {column} = :new WHERE {this}", new=another(whole[column]), **key)
    (finding,) = ledger.audit().findings
    assert finding.startswith(f"{table} ") and "altered; event " in finding

    plainly(ledger, f"DELETE FROM {table} WHERE {this}", **key)
    (finding,) = ledger.audit().findings
    assert finding.startswith(f"{table} ") and "removed; event " in finding

    into = f"INSERT INTO {table} ({', '.join(whole)}) VALUES ({', '.join(f':{name}' for name in whole)})"
    plainly(ledger, into, **whole)
    assert ledger.audit().findings == (), "the row is again what it was"
    unique = {"generation": 9, "message": "another", "subject": "another"}
    second = whole | {keys[0]: another(whole[keys[0]])} | {n: v for n, v in unique.items() if n in whole}
    plainly(ledger, into, **second)
    (finding,) = ledger.audit().findings
    assert finding.startswith(f"{table} ") and "not covered" in finding


def another(value: Any) -> Any:
    """A different value of the same type and length."""
    return f"x{value[1:]}" if isinstance(value, str) else value + 1000


def test_an_alteration_is_not_hidden_by_a_later_write_of_the_ledger(ledger: Ledger) -> None:
    """The digest of the next write would vouch for the altered row."""
    fill(ledger)
    plainly(ledger, "UPDATE holds SET reason = 'nothing'")
    ledger.lift("zoo", [TWO], "bo@example.com", "fixed")
    (finding,) = ledger.audit().findings
    assert finding.startswith("holds 1 (project zoo, release 2222") and "altered after event" in finding


def test_rows_that_the_ledger_removes_are_not_missed(ledger: Ledger) -> None:
    fill(ledger)
    ledger.forget(REPORT.key, "damaged")
    ledger.close(ledger.requests("zoo")[-1], "done", "all is well")
    assert ledger.audit().findings == ()


def test_what_is_rolled_back_leaves_no_trace(ledger: Ledger) -> None:
    fill(ledger)
    before = ledger.audit()
    with pytest.raises(RuntimeError), ledger._write() as c:
        c.execute(schema.holds.delete())
        raise RuntimeError
    assert ledger.audit() == before


def test_an_insert_that_the_trail_cannot_follow_is_refused(ledger: Ledger) -> None:
    row = {"run_id": "r", "project": "zoo", "revision": A}
    with pytest.raises(TypeError, match="one row at a time"), ledger._write() as c:
        c.execute(schema.pins.insert().values([row, row | {"run_id": "s"}]))


@pytest.mark.parametrize("what", ["UPDATE audit SET event = '{}' WHERE id = 2", "DELETE FROM audit WHERE id = 2"])
def test_the_chain_itself_is_protected(ledger: Ledger, what: str) -> None:
    fill(ledger)
    plainly(ledger, what)
    assert any("was altered, or the one before it removed" in finding for finding in ledger.audit().findings)


def test_an_end_that_was_cut_off_is_found_with_an_earlier_head(ledger: Ledger) -> None:
    """Within itself a shorter chain is intact; only what was kept elsewhere tells."""
    ledger.open_request("zoo", A, 1, "first run")
    early = ledger.audit().head
    assert early is not None
    fill_more = ledger.close(ledger.requests("zoo")[-1], "done", "all is well")
    assert fill_more and ledger.continues(early) is None
    late = ledger.audit().head
    assert late is not None and late.id > early.id
    plainly(ledger, "DELETE FROM audit WHERE id = :id", id=late.id)
    assert "is gone: the chain was cut off" in (ledger.continues(late) or "")
    assert "another hash" in (ledger.continues(AuditHead(id=early.id, hash=ONE, at=early.at)) or "")


def test_rows_of_an_older_ledger_are_said_to_be_uncovered_and_watched_from_then_on(ledger_url: str) -> None:
    """They have no digest from the time when they were written: neither intact nor altered can be said of them."""
    as_version_1(ledger_url)
    first = Ledger(ledger_url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resources.ledger.engine.migrate", lambda engine: None)
        with first.engine.begin() as c:
            c.execute(text("INSERT INTO pins (run_id, project, revision) VALUES ('run-1', 'zoo', :a)"), {"a": A})
    first.engine.dispose()
    ledger = Ledger(ledger_url)
    report = ledger.audit()
    assert (report.findings, report.taken_over) == ((), {"pins": 1})
    assert report.taken_over_at is not None
    plainly(ledger, "UPDATE pins SET revision = :b", b=B)
    (finding,) = ledger.audit().findings
    assert finding.startswith("pins run-1, zoo") and "altered" in finding
    ledger.engine.dispose()


def test_writers_in_several_processes_make_one_chain(ledger_url: str, python: Callable[..., Any]) -> None:
    """Two that read the same end would both follow it, and one of them would look removed."""
    Ledger(ledger_url).requests("zoo")
    code = (
        "import sys\nfrom resources.ledger import Ledger\nledger = Ledger(sys.argv[1])\n"
        "for n in range(15):\n    ledger.serve('zoo', sys.argv[2], f'{n}', 'x')\n"
        "    ledger.pin(f'{n}', 'zoo', sys.argv[2])\n"
    )
    started = [python(code, ledger_url, name) for name in ("staging", "production", "third")]
    assert [(p.wait(timeout=CEILING_S), p.returncode) for p in started] == [(0, 0)] * 3
    ledger = Ledger(ledger_url)
    report = ledger.audit()
    assert report.findings == () and report.covered == 3 * 15 + 15
    links = ledger._links()
    assert len({link.previous for link in links}) == len(links), "no two follow the same one"
    assert all(json.loads(link.event)["rows"] for link in links)
    ledger.engine.dispose()
