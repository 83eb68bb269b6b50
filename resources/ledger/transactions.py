"""Transactions of the ledger, with lock timeouts, and the audit trail.

Queries belong in the other modules, opening a ledger in `resources.ledger.engine`.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any, Self

from llmops_assets.domain.keys import digest
from resources.ledger import sql
from resources.ledger.faults import LedgerError, is_locked, locked, unavailable

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
            yield self._begin(stack)

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
        except sql.OperationalError as error:
            raise LedgerError(unavailable(error, self.url, self._patience_s)) from error

    def _audit(self, c: "sql.Connection", what: Mapping[str, Any]) -> None:
        if c.dialect.name == "postgresql":
            # SQLite has one writer at a time. On PostgreSQL two could follow the same event, and break the chain.
            c.exec_driver_sql("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE")
        previous = c.execute(sql.select(sql.audit.c.hash).order_by(sql.audit.c.id.desc()).limit(1)).scalar() or ""
        text, at = json.dumps(dict(what), sort_keys=True), self.clock()
        c.execute(sql.insert(sql.audit).values(at=at, event=text, previous=previous, hash=digest([previous, at, text])))

    def events(self) -> list[dict[str, Any]]:
        """Every audited event, oldest first: id, at (epoch seconds), hash, and what happened."""
        with self._read() as c:
            rows = c.execute(sql.select(sql.audit).order_by(sql.audit.c.id))
            return [{"id": r.id, "at": r.at, **json.loads(r.event), "hash": r.hash} for r in rows]

    def verify_audit(self) -> int:
        """Verifies the chain and returns the number of audited events.

        Raises:
            LedgerError: the message names the first row that does not match.
        """
        previous, count = "", 0
        with self._read() as c:
            for row in c.execute(sql.select(sql.audit).order_by(sql.audit.c.id)):
                if row.previous != previous or row.hash != digest([row.previous, row.at, row.event]):
                    raise LedgerError(f"audit event {row.id} was altered, or the one before it removed")
                previous, count = row.hash, count + 1
        return count
