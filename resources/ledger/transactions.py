"""Transactions of the ledger, with lock timeouts, and the audit trail.

Queries belong in the other modules, opening a ledger in `resources.ledger.engine`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any, Self

from pydantic import ValidationError

from llmops_assets.config.documents import DocumentError, parse_object
from llmops_assets.domain.audit import AuditHead, AuditReport, Link, audit, compare_head
from resources.ledger import sql
from resources.ledger.audit_events import append_event
from resources.ledger.faults import LedgerError, is_locked, locked, shown, unavailable

PATIENCE_S = 20.0
"""How long a sensor's tick or a command waits for another process to unlock the ledger. Dagster limits a tick to
60 s."""
SAID_AFTER_S = 5.0
_SLICE_MS = 1_000
"""How long SQLite itself waits for a lock; between attempts the writer checks its own timeout."""


class Transactions:
    """Base class of all parts of the ledger, and the table `audit`."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time):
        self.url = url
        self.clock = clock
        self._engine: sql.Engine | None = None
        self._patience_s = PATIENCE_S
        self._say: Callable[[str], None] = lambda text: None

    @property
    def engine(self) -> "sql.Engine":
        if self._engine is None:
            from resources.ledger.engine import open_engine  # with SQLAlchemy, see `resources.ledger.sql`

            self._engine = open_engine(self.url)
        return self._engine

    def patient(self, seconds: float, say: Callable[[str], None] = lambda text: None) -> Self:
        """A copy of this ledger that waits this long for another process to unlock it, and reports that it waits."""
        with self._clear():
            assert self.engine
        other = copy(self)
        other._patience_s, other._say = seconds, say
        return other

    def trouble(self) -> str | None:
        """Why the ledger is not writable now; None if it is."""
        try:
            with self.patient(1.0)._write():
                return None
        except LedgerError as error:
            return str(error)

    @contextmanager
    def _write(self) -> "Iterator[sql.Connection]":
        with self._clear(), ExitStack() as stack:
            c = self._begin(stack)
            with self._recorded(c):
                yield c

    def _begin(self, stack: ExitStack) -> "sql.Connection":
        """Begins a transaction with the write lock. Nothing has been written yet, so it can be retried safely."""
        began = time.monotonic()
        said = False
        while True:
            try:
                return stack.enter_context(self.engine.execution_options(wait_ms=_SLICE_MS).begin())
            except sql.OperationalError as error:
                waited = time.monotonic() - began
                if not is_locked(error) or waited >= self._patience_s:
                    raise
                if waited >= SAID_AFTER_S and not said:
                    self._say(f"waiting for the ledger: {locked(self.url)}")
                    said = True

    @contextmanager
    def _read(self) -> "Iterator[sql.Connection]":
        with self._clear(), self.engine.execution_options(writes=False).connect() as connection:
            yield connection

    @contextmanager
    def _clear(self) -> Iterator[None]:
        """Translates database errors into short messages. The originals are a page of SQL."""
        try:
            yield
        except sql.IntegrityError:
            raise  # a row exists already: the caller decides what that means
        except sql.DBAPIError as error:  # OperationalError; from a damaged file also its base class
            raise LedgerError(unavailable(error, self.url, self._patience_s)) from error
        except ValidationError as error:
            what = error.errors(include_url=False)[0]
            raise LedgerError(
                f"the ledger {shown(self.url)} holds a {error.title} that cannot be read ({what['msg']}): it was "
                "altered, or written by another version. Remedy: `llmops audit` names altered events; restore a copy"
            ) from error

    def _audit(self, c: "sql.Connection", what: Mapping[str, Any]) -> None:
        """Adds an event to the trail; it is written at the end of the transaction, with the digests of its rows."""
        from resources.ledger.row_digests import Written

        Written.of(c).events.append((self.clock(), dict(what)))

    def note(self, what: Mapping[str, Any]) -> None:
        """Adds an event that changes no row to the trail."""
        with self._write() as c:
            self._audit(c, what)

    @contextmanager
    def _recorded(self, c: "sql.Connection") -> Iterator[None]:
        """Chains what a transaction writes: its events, the last one with the digests of all rows."""
        from resources.ledger.row_digests import Written

        if c.dialect.name == "postgresql":
            # SQLite has one writer at a time. On PostgreSQL two could follow the same event, and break the chain; or
            # one could change a row between the moments at which the other reads its digest and writes it.
            c.exec_driver_sql("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE")
        written = Written()
        written.begin(c)
        try:
            yield
            rows = written.rows(c)
        finally:
            written.end(c)
        events = written.events or ([(self.clock(), {})] if rows else [])
        if rows:
            events[-1][1]["rows"] = rows
        for at, what in events:
            append_event(c, at, what)

    def events(self) -> list[dict[str, Any]]:
        """Every audited event, oldest first: id, at (epoch seconds), hash, and what happened."""
        with self._read() as c:
            rows = c.execute(sql.select(sql.audit).order_by(sql.audit.c.id)).all()
        told = [{"id": r.id, "at": r.at, **_event(r), "hash": r.hash} for r in rows]
        return [{k: v for k, v in event.items() if k != "rows"} for event in told if "event" in event]

    def verify_audit(self) -> int:
        """Verifies the chain itself, and returns the number of audited events; `audit` compares the rows with it.

        Raises:
            LedgerError: the message names the first event that does not match.
        """
        report = audit(self._links(), {}, str)
        if broken := [text for text in report.findings if text.startswith("audit event")]:
            raise LedgerError(broken[0])
        return report.events

    def audit(self) -> AuditReport:
        """Verifies the chain, and compares every row of the ledger with it."""
        from resources.ledger.row_digests import present_rows, row_digest, row_name
        from resources.ledger.schema import metadata

        with self._snapshot() as c:
            links = _links(c)
            present = present_rows(c)
        digests = {row: row_digest(metadata.tables[row[0]], values) for row, values in present.items()}
        return audit(links, digests, lambda row: row_name(row, present))

    def continues(self, head: AuditHead) -> str | None:
        """Why the chain does not continue from an earlier head; None if it does."""
        return compare_head(head, self._links())

    def _links(self) -> list[Link]:
        with self._read() as c:
            return _links(c)

    @contextmanager
    def _snapshot(self) -> "Iterator[sql.Connection]":
        """A connection whose reads all see the same state, also if others write meanwhile."""
        options: dict[str, Any] = {"writes": False}
        if self.engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        with self._clear(), self.engine.execution_options(**options).connect() as connection:
            yield connection


def _links(c: "sql.Connection") -> list[Link]:
    return [Link(**row._mapping) for row in c.execute(sql.select(sql.audit).order_by(sql.audit.c.id))]


def _event(row: Any) -> dict[str, Any]:
    try:
        return parse_object(row.event)
    except DocumentError as error:
        raise LedgerError(f"audit event {row.id} was altered: {error}") from error
