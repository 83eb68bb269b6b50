"""Digests of the rows that a transaction writes, for the audit trail.

Every table is covered without any doing of the code that writes to it, so that a new one cannot be forgotten. What
matters is the statement: only SQLAlchemy's insert, update and delete of tables are seen, and only inside
`Transactions._write`. A row that gets into the ledger in any other way is what an audit finds.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, Connection, Delete, Engine, Insert, Table, Update, event, select

from llmops_assets.domain.audit import Row
from llmops_assets.domain.keys import digest, short
from resources.ledger import schema

_NOT_COVERED = frozenset({schema.schema.name, schema.audit.name})
"""The schema's version, and the chain itself, which its hashes protect."""
_INFO = "llmops_written"


class Written:
    """What one transaction writes: the rows' digests before it, and the events that it adds to the trail."""

    def __init__(self) -> None:
        self.before: dict[Row, str | None] = {}
        self.events: list[tuple[float, dict[str, Any]]] = []

    @classmethod
    def of(cls, c: Connection) -> "Written":
        """What this connection's transaction has written so far."""
        found: Written = c.info[_INFO]
        return found

    def begin(self, c: Connection) -> None:
        c.info[_INFO] = self

    @staticmethod
    def end(c: Connection) -> None:
        c.info.pop(_INFO, None)

    def rows(self, c: Connection) -> list[list[Any]]:
        """[table, primary key, digest now, digest before] of each row that was changed."""
        found = []
        for (name, key), before in self.before.items():
            table = schema.metadata.tables[name]
            now = c.execute(select(table).where(*_is(table, key))).first()
            after = row_digest(table, now) if now is not None else None
            if after != before:
                found.append([name, list(key), after, before])
        return found


def covered_tables() -> list[Table]:
    return [table for table in schema.metadata.sorted_tables if table.name not in _NOT_COVERED]


def row_digest(table: Table, row: Any) -> str:
    """The digest of a row's values. Those that equal their column's default do not count: so a column that a later
    version adds changes no digest.
    """
    values = {column.name: value for column, value in zip(table.columns, row, strict=True) if value is not None}
    return digest({name: value for name, value in values.items() if str(value) != _default(table.columns[name])})


def row_name(row: Row, present: dict[Row, Any]) -> str:
    """A row for a message: its table and key, and what it is about if it exists."""
    table, key = row
    name = f"{table} {', '.join(short(str(part)) for part in key)}"
    found = present.get(row)
    known = dict(found._mapping) if found is not None else {}
    about = [
        f"{column} {short(str(known[column]))}"
        for column in ("project", "environment", "release", "revision", "stage", "choice", "status")
        if known.get(column) not in (None, *key)
    ]
    return f"{name} ({', '.join(about)})" if about else name


def present_rows(c: Connection) -> dict[Row, Any]:
    """Every row that should be in the trail."""
    found: dict[Row, Any] = {}
    for table in covered_tables():
        keys = [list(table.columns).index(column) for column in table.primary_key]
        for row in c.execute(select(table)):
            found[table.name, tuple(row[k] for k in keys)] = row
    return found


def take_over(c: Connection) -> dict[str, Any] | None:
    """The event with which the trail begins to cover the rows that exist already; None if there is none."""
    rows = [
        [name, list(key), row_digest(schema.metadata.tables[name], row), None]
        for (name, key), row in present_rows(c).items()
    ]
    names = [name for name, *_ in rows]
    return {"rows": rows, "taken_over": {name: names.count(name) for name in dict.fromkeys(names)}} if rows else None


def watch(engine: Engine) -> None:
    """From now on, notes which rows of covered tables the transactions of this engine write."""

    @event.listens_for(engine, "before_execute")
    def _before(c: Connection, statement: Any, *_: Any) -> None:
        written: Written | None = c.info.get(_INFO)
        if written is None or not isinstance(statement, Update | Delete) or not _covers(statement.table):
            return
        table: Table = statement.table  # type: ignore[assignment]
        keys = [list(table.columns).index(column) for column in table.primary_key]
        query = select(table) if statement.whereclause is None else select(table).where(statement.whereclause)
        for row in c.execute(query):
            written.before.setdefault((table.name, tuple(row[k] for k in keys)), row_digest(table, row))

    @event.listens_for(engine, "after_execute")
    def _after(c: Connection, statement: Any, _m: Any, _p: Any, _o: Any, result: Any) -> None:
        written: Written | None = c.info.get(_INFO)
        if written is None or not isinstance(statement, Insert) or not _covers(statement.table):
            return
        for key in _inserted(statement, result):
            written.before.setdefault((statement.table.name, tuple(key)), None)


def _inserted(statement: Insert, result: Any) -> Iterable[Any]:
    keys = [] if statement._post_values_clause is not None else list(result.inserted_primary_key_rows)
    if not keys or any(part is None for key in keys for part in key):
        raise TypeError(
            f"the audit trail cannot see which rows this insert into {statement.table.name} wrote: insert one row at a "
            "time, without ON CONFLICT"
        )
    return keys


def _covers(table: Any) -> bool:
    return isinstance(table, Table) and table.metadata is schema.metadata and table.name not in _NOT_COVERED


def _is(table: Table, key: tuple[Any, ...]) -> list[Any]:
    return [column == part for column, part in zip(table.primary_key, key, strict=True)]


def _default(column: Column[Any]) -> str | None:
    default = column.server_default
    return str(default.arg) if default is not None and hasattr(default, "arg") else None
