"""Dagster's SQLite storage, which remembers what it has prepared: named in `dagster.yaml` of the local profile.

Dagster builds an instance, and with it a storage, for each sensor tick. Each time its SQLite storage loads its Alembic
migrations, about 90 files, to compare revisions: 70 % of the CPU time of ticks that find nothing to do. And each query
has an SQLAlchemy engine of its own, so no compiled statement is used twice. Here a process prepares each database once
and keeps its engine. Tables and files are Dagster's: each storage reads what the other wrote.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

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
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

ENGINES = 64
"""Engines that a process keeps. Each run has a database; an engine with its compiled statements holds about 1 MB."""


@lru_cache(maxsize=ENGINES)
def _engine(address: str) -> Engine:
    """No connection is kept, so none is inherited by a fork or used by two threads."""
    return create_engine(address, poolclass=NullPool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})


class _Prepared:
    """The database files whose tables this process has seen; one that was replaced or deleted is not among them."""

    def __init__(self) -> None:
        self._inodes: dict[str, int] = {}
        self._lock = threading.Lock()

    def __contains__(self, path: str) -> bool:
        try:
            return os.stat(path).st_ino == self._inodes.get(path)  # noqa: PTH116 - before every query
        except OSError:
            return False

    def add(self, path: str) -> None:
        with self._lock:
            self._inodes[path] = Path(path).stat().st_ino


_prepared = _Prepared()


class _Runs(SqliteRunStorage):
    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Self:
        path = os.path.join(base_dir, "runs.db")  # noqa: PTH118 - as Dagster makes it
        if path in _prepared:
            return cls(create_db_conn_string(base_dir, "runs"), inst_data)
        storage = super().from_local(base_dir, inst_data)
        _prepared.add(path)
        return storage

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with _engine(self._conn_string).begin() as connection:
            yield connection


class _Schedules(SqliteScheduleStorage):
    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Self:
        path = os.path.join(base_dir, "schedules.db")  # noqa: PTH118
        if path in _prepared:
            return cls(create_db_conn_string(base_dir, "schedules"), inst_data)
        storage: Any = super().from_local(base_dir, inst_data)
        _prepared.add(path)
        return storage

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with _engine(self._conn_string).begin() as connection:
            yield connection


class _Events(SqliteEventLogStorage):
    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            path, engine = self.path_for_shard(shard), _engine(self.conn_string_for_shard(shard))
            if path not in _prepared:
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
