"""Brings a ledger to this code's schema: makes a new one, or takes an older one up step by step, all or nothing."""

from collections.abc import Callable

from sqlalchemy import Connection, Engine, insert, inspect, select, update

from resources import ledger_schema as t


class LedgerError(Exception):
    """The ledger cannot be used as it is; the message names the remedy."""


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

    Raises:
        LedgerError: the ledger is newer than this code. It is left as it is.
    """
    with engine.begin() as c:
        if c.dialect.name == "postgresql":
            # As SQLite's write lock: two processes that open a new ledger at once would create each table twice.
            c.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_OPENING})")
        if not inspect(c).has_table(t.schema.name):
            t.metadata.create_all(c)
            c.execute(insert(t.schema).values(version=t.SCHEMA_VERSION))
            return
        version = c.execute(select(t.schema.c.version)).scalar_one()
        if version > t.SCHEMA_VERSION:
            raise LedgerError(
                f"the ledger has schema version {version}, this code has {t.SCHEMA_VERSION}; use the matching release"
            )
        for step in range(version + 1, t.SCHEMA_VERSION + 1):
            STEPS[step](c)
        if version != t.SCHEMA_VERSION:
            c.execute(update(t.schema).values(version=t.SCHEMA_VERSION))
