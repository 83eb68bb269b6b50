"""Opens a ledger: connections with the locks that its transactions rely on, and the current schema.

Queries belong in the other modules of `resources.ledger`, schema migrations in `resources.ledger.migrations`.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from resources.ledger.faults import LedgerError
from resources.ledger.migrations import migrate
from resources.ledger.row_digests import watch

REMEDY = (
    "write sqlite:////absolute/path/ledger.sqlite or postgresql://user@host/database in the settings (with the extra "
    "`postgres` installed), or the name of an environment variable that holds it, {env: NAME}"
)

WAIT_MS = 30_000
"""SQLite's lock timeout for transactions that set none, such as those that open a new ledger."""


def open_engine(url: str) -> Engine:
    """Opens a ledger, and creates or migrates its tables.

    Raises:
        LedgerError: the address names no ledger, or its version is newer. Never with a password in it.
    """
    try:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        if not sqlite and parsed.get_backend_name() != "postgresql":
            raise LedgerError(f"ledger: {parsed.get_backend_name()} is not supported; {REMEDY}")
        if sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={"timeout": WAIT_MS / 1000} if sqlite else {})
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise LedgerError(f"ledger: not the address of a database; {REMEDY}") from error
    except ImportError as error:
        raise LedgerError(f"ledger: its driver {error.name} is not installed; {REMEDY}") from error
    except OSError as error:
        raise LedgerError(f"ledger: {error.filename}: {error.strerror}; correct `ledger` or `home`") from error
    if sqlite:
        # pysqlite opens transactions lazily, so two readers could both decide to write; BEGIN IMMEDIATE takes the
        # write lock first and waits for it.
        @event.listens_for(engine, "connect")
        def _connect(connection: Any, _: Any) -> None:
            connection.isolation_level = None
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            options = connection.get_execution_options()
            connection.exec_driver_sql(f"PRAGMA busy_timeout={options.get('wait_ms', WAIT_MS)}")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes", True) else "BEGIN")

    migrate(engine)
    watch(engine)
    return engine
