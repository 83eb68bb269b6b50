"""Migrates a ledger to the current schema: creates a new one, or upgrades an older one in one transaction."""

import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, inspect, select, update

from resources.ledger import schema as t
from resources.ledger.audit_events import append_event
from resources.ledger.faults import LedgerError
from resources.ledger.row_digests import take_over


def _to_2(c: Connection) -> None:
    """Adds approvals and holds."""
    t.approvals.create(c)
    t.holds.create(c)


def _to_3(c: Connection) -> None:
    """Adds the number of tries of a request; earlier tries are not counted."""
    c.exec_driver_sql("ALTER TABLE requests ADD COLUMN tries INTEGER DEFAULT 1 NOT NULL")


def _to_4(c: Connection) -> None:
    """Adds tombstones; nothing was collected before."""
    t.tombstones.create(c)


def _to_5(c: Connection) -> None:
    """Changes no table: from now on the audit trail covers rows, see `migrate`."""


def _to_6(c: Connection) -> None:
    """Adds projections."""
    t.projections.create(c)


def _to_7(c: Connection) -> None:
    """Adds the outbox of notifications."""
    t.notifications.create(c)


def _to_8(c: Connection) -> None:
    """Adds reviews."""
    t.reviews.create(c)


def _to_9(c: Connection) -> None:
    """Adds decisions on budgets, and the stages that a request is limited to."""
    t.budget_decisions.create(c)
    c.exec_driver_sql("ALTER TABLE requests ADD COLUMN stages TEXT")
    c.exec_driver_sql("ALTER TABLE requests ADD COLUMN model VARCHAR(128) DEFAULT '' NOT NULL")


def _to_10(c: Connection) -> None:
    """Adds the answers to code hosts."""
    t.answers.create(c)


def _to_11(c: Connection) -> None:
    """Adds the proposals of the bot."""
    t.proposals.create(c)


STEPS: dict[int, Callable[[Connection], None]] = {
    2: _to_2, 3: _to_3, 4: _to_4, 5: _to_5, 6: _to_6, 7: _to_7, 8: _to_8, 9: _to_9, 10: _to_10,
    11: _to_11,
}  # fmt: skip
"""Version → the step from the previous version to it. Never edit a released step.

A column that is added needs NULL or a server default for existing rows, so that their digests in the audit trail stay
valid (`row_digests.row_digest`); a step that changes values of existing rows has to add their new digests itself.
"""
ROWS_ARE_COVERED_SINCE = 5

_OPENING = 0x11_40_95
"""Id of the advisory lock for creating or migrating a ledger."""


def migrate(engine: Engine) -> None:
    """Migrates to the current schema, in one transaction: other processes that open the ledger meanwhile wait.

    An older ledger on SQLite is first copied to NAME.v1 (by its version) in the same folder; to roll back, restore that
    file.

    Raises:
        LedgerError: the ledger is newer than this code. It is not changed.
    """
    # Check without the write lock first: readers do not wait for a process that holds it.
    with engine.execution_options(writes=False).begin() as c:
        version = _version(c)
    if version == t.SCHEMA_VERSION:
        return
    if version is not None and engine.dialect.name == "sqlite":
        _keep(engine, version)
    with engine.begin() as c:
        if c.dialect.name == "postgresql":
            # Like SQLite's write lock: two processes that open a new ledger would both create each table.
            c.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_OPENING})")
        version = _version(c)
        if version is None:
            t.metadata.create_all(c)
            c.execute(insert(t.schema).values(version=t.SCHEMA_VERSION))
            return
        for step in range(version + 1, t.SCHEMA_VERSION + 1):
            STEPS[step](c)
        if version < ROWS_ARE_COVERED_SINCE and (event := take_over(c)):
            # Last, because it reads all tables as they are now. Nothing is known of what happened to the rows before.
            append_event(c, time.time(), event)
        if version != t.SCHEMA_VERSION:
            c.execute(update(t.schema).values(version=t.SCHEMA_VERSION))


def _version(c: Connection) -> int | None:
    """The ledger's schema version; None if there is no ledger yet.

    Raises:
        LedgerError: it is newer than this code.
    """
    if not inspect(c).has_table(t.schema.name):
        return None
    version = c.execute(select(t.schema.c.version)).scalar()
    if not isinstance(version, int):
        raise LedgerError(f"the ledger's table {t.schema.name} has no version: it is damaged. Remedy: restore a copy")
    if version > t.SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema version {version}, this code has {t.SCHEMA_VERSION}; use the matching release, or "
            f"restore the copy from before the upgrade (NAME.v{t.SCHEMA_VERSION} in the same folder)"
        )
    return version


def _keep(engine: Engine, version: int) -> None:
    """Copies a ledger before its migration, unless a copy exists."""
    database = Path(engine.url.database or "")
    kept = database.with_name(f"{database.name}.v{version}")
    if kept.exists():
        return
    part = kept.with_name(f"{kept.name}.{uuid.uuid4().hex}.part")
    try:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            (copied,) = copy.execute(f"SELECT version FROM {t.schema.name}").fetchone()
        if copied == version:  # else another process migrated it first, and made its own copy before
            part.replace(kept)
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(
            f"the ledger {database} has schema version {version} and is not upgraded to {t.SCHEMA_VERSION}, because "
            f"it cannot be copied to {kept.name}: {error}. Remedy: free space there, or grant this user write access"
        ) from error
    finally:
        part.unlink(missing_ok=True)
