"""The ledger as a database: audit trail, readers beside writers, killed processes, copies. On SQLite and PostgreSQL."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from llmops_assets.domain.verdict import Verdict
from resources.ledger import Ledger, LedgerError
from resources.ledger import schema as tables
from resources.ledger.backup import copy_ledger
from tests.resources.ledger.examples import A, B, now, opened
from tests.support.waiting import wait_for


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
