"""What garbage collection needs of the ledger: what is in use, and tombstones of what was collected.

Which results may go is decided in `llmops_assets.domain.garbage`. Requests, records, verdicts, releases, servings,
rollouts, approvals, holds and the audit trail are never deleted. Deleted are pins of runs that have ended, and lineage
edges older than a limit.
"""

import re
from collections.abc import Collection as Group
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from llmops_assets.domain.approval import Decision
from llmops_assets.domain.garbage import Approved, Claim, Inventory, ReleaseArtifact, Result, Served, Use
from llmops_assets.domain.records import Release, parse_record
from llmops_assets.domain.requests import ACTIVE
from resources.ledger import sql
from resources.ledger.transactions import Transactions

_IDENTITY = re.compile(r"/artifacts/([0-9a-f]{64})")


class Collection(Transactions):
    """The table `tombstones`, and a view of all others."""

    def inventory(self) -> Inventory:
        """What every project uses, in one consistent read."""
        with self._read() as c:
            gone = set(c.execute(sql.select(sql.tombstones.c.key)).scalars())
            return Inventory(
                uses=tuple(
                    Use(project=r.project, revision=r.revision, key=r.key, at=r.updated)
                    for r in c.execute(sql.select(sql.edges))
                ),
                served=tuple(
                    Served(project=r.project, environment=r.environment, release=r.release, revision=r.revision)
                    for r in c.execute(sql.select(sql.servings).order_by(sql.servings.c.id))
                ),
                approved=tuple(_approved(c)),
                claims=tuple(_claims(c)),
                results=tuple(_result(r, r.key in gone) for r in c.execute(sql.select(sql.records))),
                releases=tuple(_release(r) for r in c.execute(sql.select(sql.releases))),
            )

    def began(self) -> float | None:
        """When this ledger was created: the time of its first audit event. None if nothing has happened yet."""
        with self._read() as c:
            return c.execute(sql.select(sql.audit.c.at).order_by(sql.audit.c.id).limit(1)).scalar()

    def identity(self) -> str:
        """Names this ledger among those that share a store: the hash of its first audit event. A copy has the same."""
        query = sql.select(sql.audit.c.hash).order_by(sql.audit.c.id).limit(1)
        with self._read() as c:
            first = c.execute(query).scalar()
        if first is None:
            self.note({"event": "began"})
            return self.identity()
        return str(first)[:32]

    def bury(self, buried: Iterable[tuple[Result, int]], reason: str) -> None:
        """Marks results as collected, each with the bytes that were freed, unless they were replaced since."""
        now = self.clock()
        with self._write() as c:
            for result, freed in buried:
                there = (sql.records.c.key == result.key) & (sql.records.c.created == result.at)
                absent = sql.select(sql.tombstones.c.key).where(sql.tombstones.c.key == result.key)
                if c.execute(sql.select(sql.records.c.key).where(there)).first() is None or c.execute(absent).first():
                    continue
                row = {"key": result.key, "at": now, "bytes": freed, "reason": reason}
                c.execute(sql.insert(sql.tombstones).values(row))
                what = {"event": "collected", "key": result.key, "stage": result.stage, "project": result.project}
                self._audit(c, {**what, "revision": result.revision, "reason": reason})

    def collected(self, keys: Group[str]) -> dict[str, float]:
        """Key → when its artifact was collected, for those of the keys that were."""
        query = sql.select(sql.tombstones.c.key, sql.tombstones.c.at).where(sql.tombstones.c.key.in_(list(keys)))
        with self._read() as c:
            return {r.key: r.at for r in c.execute(query)}

    def collected_releases(self, project: str) -> dict[str, float]:
        """Release → when its weights were collected, for releases of a project that can no longer be served."""
        gone: dict[str, float] = {}
        with self._read() as c:
            dead = {r.key: r.at for r in c.execute(sql.select(sql.tombstones))}
            rows = c.execute(sql.select(sql.records).where(sql.records.c.stage == "quantized_artifact")).all()
            kept = {made for r in rows if r.key not in dead and (made := _result(r, False).made)}
            lost = {made: dead[r.key] for r in rows if r.key in dead and (made := _result(r, True).made)}
            for row in c.execute(sql.select(sql.releases).where(sql.releases.c.project == project)):
                artifact = _release(row).artifact
                if artifact in lost and artifact not in kept:
                    gone[row.digest] = lost[artifact]
        return gone

    def prune(
        self, before: float, keep: frozenset[tuple[str, str]], ended: Group[str], dry_run: bool = False
    ) -> dict[str, int]:
        """Deletes rows that no decision reads any more; returns their number by table.

        Args:
            before: lineage edges last changed before this time may go.
            keep: (project, revision) whose edges stay.
            ended: ids of runs that have ended: their pins may go.
        """
        edges, pins = sql.edges, sql.pins
        old = edges.c.updated < before
        with self._write() as c:
            found = {(r.project, r.revision) for r in c.execute(sql.select(edges).where(old))} - keep
            chosen: list[tuple[Any, Any]] = [
                (edges, old & (edges.c.project == project) & (edges.c.revision == revision))
                for project, revision in sorted(found)
            ]
            chosen += [(pins, pins.c.run_id == run) for run in ended]
            counts: dict[str, int] = {}
            for table, where in chosen:
                query = sql.select(table).where(where)
                count = len(c.execute(query).all()) if dry_run else c.execute(sql.delete(table).where(where)).rowcount
                counts[table.name] = counts.get(table.name, 0) + count
        return {name: count for name, count in counts.items() if count}

    def pinned_runs(self) -> list[str]:
        """The runs that are pinned to a revision."""
        with self._read() as c:
            return list(dict.fromkeys(c.execute(sql.select(sql.pins.c.run_id)).scalars()))


def _claims(c: "sql.Connection") -> Iterable[Claim]:
    """What people and runs hold now: open requests, the newest request, holds, and running rollouts."""
    newest: dict[str, Any] = {}
    for row in c.execute(sql.select(sql.requests).order_by(sql.requests.c.id)):
        newest[row.project] = row
        if row.status in ACTIVE or row.status == "waiting":
            yield Claim(why=f"its request is {row.status}", project=row.project, revision=row.revision)
            if row.base:
                yield Claim(why="an open request compares with it", project=row.project, revision=row.base)
    for project, row in newest.items():
        yield Claim(why="the newest request", project=project, revision=row.revision)
    for row in c.execute(sql.select(sql.holds).where(sql.holds.c.lifted.is_(None))):
        yield Claim(why="held", project=row.project, release=row.release)
    for row in c.execute(sql.select(sql.rollouts).where(sql.rollouts.c.status == "running")):
        yield Claim(why="its rollout runs", project=row.project, revision=row.revision, release=row.release)


def _approved(c: "sql.Connection") -> Iterable[Approved]:
    for row in c.execute(sql.select(sql.approvals).where(sql.approvals.c.choice == "approved")):
        revision = Decision.model_validate_json(row.body).revision
        yield Approved(project=row.project, revision=revision, release=row.release, at=row.created)


def _result(row: Any, gone: bool) -> Result:
    head = {"key": row.key, "stage": row.stage, "at": row.created, "collected": gone}
    try:
        record = parse_record(row.body)
    except ValidationError:
        # Written by newer code: whatever it names must stay.
        named = tuple(dict.fromkeys(_IDENTITY.findall(row.body)))
        return Result(**head, project="", revision="", artifacts=named, made=None, readable=False)
    made = _identity(record.made) if record.made else None
    artifacts = tuple(a for uri in record.artifacts if (a := _identity(uri)))
    return Result(
        **head, project=record.made_by.project, revision=record.made_by.revision, artifacts=artifacts, made=made
    )


def _release(row: Any) -> ReleaseArtifact:
    release = Release.model_validate_json(row.body)
    artifact = _identity(release.artifact_uri) or ""
    return ReleaseArtifact(project=row.project, release=row.digest, revision=row.revision, artifact=artifact)


def _identity(uri: str) -> str | None:
    return uri.rstrip("/").rsplit("/", 1)[-1] or None
