"""Brings a ledger to this code's schema: makes a new one, or takes an older one up step by step, all or nothing."""

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, inspect, select, update

from resources.ledger import schema as t
from resources.ledger.faults import LedgerError


def _to_2(c: Connection) -> None:
    """Decisions by people, and releases that they took back."""
    t.approvals.create(c)
    t.holds.create(c)


def _to_3(c: Connection) -> None:
    """How often a request was tried since somebody asked; what died before this is not counted."""
    c.exec_driver_sql("ALTER TABLE requests ADD COLUMN tries INTEGER DEFAULT 1 NOT NULL")


STEPS: dict[int, Callable[[Connection], None]] = {2: _to_2, 3: _to_3}
"""Version → what makes it from the one before. A step that has shipped is never edited."""

_OPENING = 0x11_40_95
"""Number of the advisory lock under which a ledger is created or migrated."""


def migrate(engine: Engine) -> None:
    """Makes the schema this code's own, in one transaction: whoever opens it at the same moment waits.

    An older ledger on SQLite is copied first, to NAME.v1 beside it: the way back is to put that file in its place.

    Raises:
        LedgerError: the ledger is newer than this code. It is left as it is.
    """
    # A look first, without the write lock: who only reads does not wait for a process that holds it.
    with engine.execution_options(writes=False).begin() as c:
        version = _version(c)
    if version == t.SCHEMA_VERSION:
        return
    if version is not None and engine.dialect.name == "sqlite":
        _keep(engine, version)
    with engine.begin() as c:
        if c.dialect.name == "postgresql":
            # As SQLite's write lock: two processes that open a new ledger at once would create each table twice.
            c.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_OPENING})")
        version = _version(c)
        if version is None:
            t.metadata.create_all(c)
            c.execute(insert(t.schema).values(version=t.SCHEMA_VERSION))
            return
        for step in range(version + 1, t.SCHEMA_VERSION + 1):
            STEPS[step](c)
        if version != t.SCHEMA_VERSION:
            c.execute(update(t.schema).values(version=t.SCHEMA_VERSION))


def _version(c: Connection) -> int | None:
    """The ledger's schema version, None if there is no ledger yet.

    Raises:
        LedgerError: it is newer than this code.
    """
    if not inspect(c).has_table(t.schema.name):
        return None
    version = int(c.execute(select(t.schema.c.version)).scalar_one())
    if version > t.SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema version {version}, this code has {t.SCHEMA_VERSION}; use the matching release, or "
            f"put back the copy that was kept when it was upgraded (NAME.v{t.SCHEMA_VERSION} beside it)"
        )
    return version


def _keep(engine: Engine, version: int) -> None:
    """A copy of a ledger as it is before it is migrated, if there is none yet."""
    database = Path(engine.url.database or "")
    kept = database.with_name(f"{database.name}.v{version}")
    if kept.exists():
        return
    part = kept.with_name(f"{kept.name}.{uuid.uuid4().hex}.part")
    try:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            (copied,) = copy.execute(f"SELECT version FROM {t.schema.name}").fetchone()
        if copied == version:  # else another process was faster, and made its own copy before
            part.replace(kept)
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(
            f"the ledger {database} has schema version {version} and is not upgraded to {t.SCHEMA_VERSION}, since no "
            f"copy of it can be kept as {kept.name}: {error}. Remedy: make room there, or let this user write there"
        ) from error
    finally:
        part.unlink(missing_ok=True)
