"""Opens a ledger: connections with the locks that its transactions rely on, and the current schema.

Queries belong in the other modules of `resources.ledger`, schema migrations in `resources.ledger.migrations`.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

from resources.ledger.migrations import migrate
from resources.ledger.row_digests import watch

WAIT_MS = 30_000
"""SQLite's lock timeout for transactions that set none, such as those that open a new ledger."""


def open_engine(url: str) -> Engine:
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": WAIT_MS / 1000} if sqlite else {})
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
