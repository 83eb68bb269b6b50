"""Stage records, committed once per key, and the lineage edges from revisions to records."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from llmops_assets.domain.formatting import on_date
from llmops_assets.domain.provenance import Edge
from llmops_assets.domain.records import AnyRecord, Record, parse_record
from llmops_assets.domain.resolution import ResolvedRecords, resolve_records
from resources.artifact_store.artifact import identity_in
from resources.ledger import sql
from resources.ledger.transactions import Transactions


def _kept() -> Any:
    """The condition on a record that it was not collected."""
    return sql.records.c.key.not_in(sql.select(sql.tombstones.c.key))


class Records(Transactions):
    """The tables `records`, `edges` and `rebuilds`."""

    def find(self, key: str) -> AnyRecord | None:
        """The record under a key; None also if it was collected, or this version of the code cannot read it."""
        with self._read() as c:
            body = c.execute(sql.select(sql.records.c.body).where(sql.records.c.key == key, _kept())).scalar()
        return _parsed(body)[0] if body else None

    def resolve(self, values: Mapping[str, Any]) -> ResolvedRecords:
        """The records that a revision with these values needs, as far as they exist."""
        return resolve_records(values, self.find, self.salt_of)

    def unreadable(self, key: str) -> str | None:
        """Why the record under a key is unusable: collected, or written by newer code. None if it is not, or absent."""
        with self._read() as c:
            row = c.execute(sql.select(sql.records.c.stage, sql.records.c.body).where(sql.records.c.key == key)).first()
            gone = c.execute(sql.select(sql.tombstones).where(sql.tombstones.c.key == key)).first()
        if row is not None and gone is not None:
            return f"the result of {row.stage} was collected on {on_date(gone.at)} ({gone.reason})"
        if row is None or (why := _parsed(row.body)[1]) is None:
            return None
        return f"the record of {row.stage} in the ledger cannot be read by this version of the code ({why})"

    def recent(self, project: str, stage: str, limit: int) -> list[AnyRecord]:
        """The newest records of a stage that runs of this project made, newest first, collected ones too."""
        r = sql.records.c
        made_here = r.body.contains(f'"project":"{project}"', autoescape=True)  # narrows it down; parsed below
        query = sql.select(r.body).where(r.stage == stage, made_here).order_by(r.created.desc()).limit(limit)
        with self._read() as c:
            bodies = c.execute(query).scalars().all()
        found = (_parsed(body)[0] for body in bodies)
        return [record for record in found if record is not None and record.made_by.project == project]

    def work_since(self, project: str, since: float) -> list[tuple[float, AnyRecord]]:
        """(when, record) of all that runs of this project computed since then, oldest first, collected ones too."""
        r = sql.records.c
        made_here = r.body.contains(f'"project":"{project}"', autoescape=True)
        query = sql.select(r.created, r.body).where(r.created >= since, made_here).order_by(r.created)
        with self._read() as c:
            rows = c.execute(query).all()
        found = ((row.created, _parsed(row.body)[0]) for row in rows)
        return [(at, record) for at, record in found if record is not None and record.made_by.project == project]

    def has_stage(self, stage: str) -> bool:
        """Whether any project ever had a result of this stage."""
        query = sql.select(sql.records.c.key).where(sql.records.c.stage == stage).limit(1)
        with self._read() as c:
            return c.execute(query).first() is not None

    def has_record(self, prefix: str) -> bool:
        """Whether a record exists whose key has this prefix."""
        query = sql.select(sql.records.c.key).where(sql.records.c.key.startswith(prefix)).limit(1)
        with self._read() as c:
            return c.execute(query).first() is not None

    def artifact_digests(self) -> Iterator[str]:
        """The digests of the artifacts that records name, newest record first, without those that were collected."""
        query = sql.select(sql.records.c.body).where(_kept()).order_by(sql.records.c.created.desc())
        with self._read() as c:
            bodies = c.execute(query).scalars().all()
        for body in bodies:
            record = _parsed(body)[0]
            if record is not None and record.made:
                yield identity_in(record.made)

    def commit(self, record: Record) -> AnyRecord:
        """Conditional create: the first record under a key is kept, and every caller gets it back."""
        row = {"key": record.key, "stage": record.stage, "body": record.model_dump_json(), "created": self.clock()}
        with suppress(sql.IntegrityError), self._write() as c:
            c.execute(sql.insert(sql.records).values(row))
        found = self.find(record.key)  # another run may have committed the same work first: then its record is used
        if found is not None:
            return found
        why = self.unreadable(record.key)
        with self._write() as c:
            self._remove(c, record.key)
            c.execute(sql.insert(sql.records).values(row))
            self._audit(c, {"event": "replaced record", "key": record.key, "reason": why})
        return record  # type: ignore[return-value]

    def salt_of(self, key: str) -> str | None:
        """The salt of the newest deliberate rebuild of this (unsalted) key."""
        with self._read() as c:
            return c.execute(sql.select(sql.rebuilds.c.salt).where(sql.rebuilds.c.key == key)).scalar()

    def rebuild(self, key: str, reason: str, once: bool = False) -> None:
        """Requests a rebuild of this (unsalted) key: the existing result is no longer used.

        Args:
            once: the same reason again changes nothing.
        """
        salt = reason if once else f"{reason} ({self.clock():.3f})"
        if once and self.salt_of(key) == salt:
            return
        with self._write() as c:
            c.execute(sql.delete(sql.rebuilds).where(sql.rebuilds.c.key == key))
            c.execute(sql.insert(sql.rebuilds).values(key=key, salt=salt))
            self._audit(c, {"event": "rebuild", "key": key, "reason": reason})

    def forget(self, key: str, why: str) -> None:
        """Drops a record whose artifact is missing or damaged, so that it is recomputed."""
        with self._write() as c:
            self._remove(c, key)
            self._audit(c, {"event": "forgot record", "key": key, "reason": why})

    @staticmethod
    def _remove(c: "sql.Connection", key: str) -> None:
        """Deletes a record, and its tombstone if it has one."""
        for table in (sql.records, sql.tombstones):
            c.execute(sql.delete(table).where(table.c.key == key))

    def record_use(self, project: str, revision: str, record: Record, reused: bool) -> None:
        """Writes the lineage edge: this revision uses this record as the result of its stage."""
        where = (
            (sql.edges.c.project == project) & (sql.edges.c.revision == revision) & (sql.edges.c.stage == record.stage)
        )
        values = {"key": record.key, "reused": reused, "updated": self.clock()}
        with self._write() as c:
            if c.execute(sql.update(sql.edges).where(where).values(values)).rowcount == 0:
                c.execute(
                    sql.insert(sql.edges).values(project=project, revision=revision, stage=record.stage, **values)
                )

    def edges(self, project: str, revision: str) -> dict[str, Edge]:
        """A revision's edges by stage."""
        with self._read() as c:
            rows = c.execute(
                sql.select(sql.edges).where(sql.edges.c.project == project, sql.edges.c.revision == revision)
            )
            return {
                r.stage: Edge(project=r.project, revision=r.revision, stage=r.stage, key=r.key, reused=r.reused)
                for r in rows
            }

    def records_of(self, project: str, revision: str) -> dict[str, AnyRecord]:
        """The records that a revision uses, by stage."""
        query = sql.select(sql.edges.c.stage, sql.records.c.body).join_from(
            sql.edges, sql.records, sql.edges.c.key == sql.records.c.key
        )
        with self._read() as c:
            rows = c.execute(query.where(sql.edges.c.project == project, sql.edges.c.revision == revision))
            read = {r.stage: _parsed(r.body)[0] for r in rows}
        return {stage: record for stage, record in read.items() if record is not None}


def _parsed(body: str) -> tuple[AnyRecord | None, str | None]:
    """(record, None), or (None, why it cannot be parsed): newer code may have written it."""
    try:
        return parse_record(body), None
    except ValidationError as error:
        first = error.errors()[0]
        return None, f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
