"""Dagster's SQLite storage, which remembers what it has prepared: named in `dagster.yaml` of the local profile.

Dagster builds an instance, and with it a storage, for each sensor tick. Each time its SQLite storage loads its Alembic
migrations, about 90 files, to compare revisions. Each query has an SQLAlchemy engine of its own, so no compiled
statement is used twice, and a connection of its own: closing a database's last one writes its log back. Here a process
prepares each database once and keeps its engine and a connection: a code server spent 7 CPU seconds where it spent 16,
90 seconds with sensors every 2, and writing a run's events takes a third less. Tables and files are Dagster's: each
storage reads what the other wrote.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self
from weakref import WeakSet

from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string
from dagster._core.storage.sqlite_storage import (
    DagsterSqliteStorage,
    _event_logs_directory,
    _runs_directory,
    _schedule_directory,
)
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

ENGINES = 64
"""Engines that a process keeps. Each run has a database; an engine with its compiled statements holds about 1 MB."""


_engines: WeakSet[Engine] = WeakSet()


class _Connection(sqlite3.Connection):
    """Closes its cursors when it returns to the pool.

    An error in the middle of a result holds a cursor in its traceback, as long as somebody keeps the error. With rows
    left to read, the connection would see the past and could write nothing more.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        made = super().cursor(*arguments, **options)
        self._cursors.add(made)
        return made

    def close_cursors(self) -> None:
        for cursor in list(self._cursors):
            cursor.close()


@lru_cache(maxsize=ENGINES)
def _engine(address: str) -> Engine:
    """The database's engine, which keeps one connection. The pool gives it to one thread at a time."""
    options = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False, "factory": _Connection}
    engine = create_engine(address, poolclass=QueuePool, pool_size=1, max_overflow=-1, connect_args=options)
    event.listen(engine, "reset", lambda connection, *_: connection.close_cursors())
    _engines.add(engine)
    return engine


def _close_connections() -> None:
    for engine in list(_engines):
        engine.dispose()


# A fork that inherits a connection, used or not, believes that it holds its locks: two writers corrupt the database.
os.register_at_fork(before=_close_connections)


class _Prepared(dict[str, int]):
    """The inodes of the database files whose tables this process has seen."""

    def has(self, path: str) -> bool:
        """Whether it has seen this very file: one that was deleted or replaced is prepared again."""
        try:
            return os.stat(path).st_ino == self.get(path)  # noqa: PTH116 - before every query
        except OSError:
            return False

    def add(self, path: str) -> None:
        self[path] = Path(path).stat().st_ino


_prepared = _Prepared()


def _engine_of(address: str) -> Engine:
    """The engine of a database, without the connection to a file that was deleted or replaced since."""
    engine = _engine(address)
    if not _prepared.has(engine.url.database or ""):
        engine.dispose()
    return engine


class _OneDatabase:
    """What the storages of runs and of schedules have in common; the other base is Dagster's own."""

    _database: ClassVar[str]
    _conn_string: str

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Any:
        path = os.path.join(base_dir, f"{cls._database}.db")  # noqa: PTH118 - as Dagster makes it
        if _prepared.has(path):
            return cls(create_db_conn_string(base_dir, cls._database), inst_data)  # type: ignore[call-arg]
        storage = super().from_local(base_dir, inst_data)  # type: ignore[misc]
        _prepared.add(path)
        return storage

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with _engine_of(self._conn_string).begin() as connection:
            yield connection


class _Runs(_OneDatabase, SqliteRunStorage):
    _database = "runs"


class _Schedules(_OneDatabase, SqliteScheduleStorage):
    _database = "schedules"


class _Events(SqliteEventLogStorage):
    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            path, engine = self.path_for_shard(shard), _engine_of(self.conn_string_for_shard(shard))
            if not _prepared.has(path):
                self._initdb(engine)
                _prepared.add(path)
            with engine.begin() as connection:
                yield connection


class HomeStorage(DagsterSqliteStorage):
    """`storage: {custom: {module: resources.local_services.dagster_storage, class: HomeStorage}}` in dagster.yaml.

    Its configuration and its files are those of `storage: sqlite`.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None):
        super(DagsterSqliteStorage, self).__init__()  # its own makes the storages that are replaced here
        self.base_dir, self._inst_data = base_dir, inst_data
        self._run_storage = _Runs.from_local(_runs_directory(base_dir))
        self._event_log_storage = _Events(_event_logs_directory(base_dir))
        self._schedule_storage = _Schedules.from_local(_schedule_directory(base_dir))

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls.from_local(inst_data=inst_data, **config_value)
