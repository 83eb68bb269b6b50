"""The ledger: the one transactional memory, on SQLite or PostgreSQL. Requests, records, edges, verdicts, rollouts.

Each method is one transaction. What to do about what is found here is decided in `llmops_assets.domain`. Dagster's
cursors and run keys and MLflow's aliases are projections of it.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from typing import Any

from pydantic import ValidationError

from llmops_assets.domain.gate import Verdict
from llmops_assets.domain.keys import digest
from llmops_assets.domain.provenance import Edge
from llmops_assets.domain.records import AnyRecord, Record, Release, parse_record
from llmops_assets.domain.requests import ACTIVE, ROLLBACK, Request, Status
from llmops_assets.domain.rollout import RolloutState
from resources import sql
from resources.ledger_decisions import Conflict, PeoplesDecisions
from resources.ledger_faults import LedgerError, is_locked, locked, unavailable

__all__ = ["Conflict", "Ledger", "LedgerError", "Serving"]


PATIENCE_S = 20.0
"""How long a sensor's tick and a person's command wait for another process to unlock the ledger. Dagster gives a tick
60 s in all."""
SAID_AFTER_S = 5.0
_SLICE_MS = 1_000
"""How long SQLite itself waits for a lock: a writer looks at its patience in between."""


class Serving:
    """What an environment serves: release digest, the revision it was deployed for, since when (epoch seconds)."""

    def __init__(self, release: str, revision: str, since: float):
        self.release, self.revision, self.since = release, revision, since


class Ledger(PeoplesDecisions):
    """Opens lazily: constructing one does no I/O."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time):
        self.url = url
        self.clock = clock
        self._engine: sql.Engine | None = None
        self._patience_s = PATIENCE_S
        self._say: Callable[[str], None] = lambda text: None

    @property
    def engine(self) -> "sql.Engine":
        if self._engine is None:
            from resources.ledger_engine import open_engine  # with SQLAlchemy, see `resources.sql`

            self._engine = open_engine(self.url)
        return self._engine

    def patient(self, seconds: float, say: Callable[[str], None] = lambda text: None) -> "Ledger":
        """The same ledger for somebody who waits so long for another process to unlock it, and says so."""
        with self._clear():
            assert self.engine
        other = copy(self)
        other._patience_s, other._say = seconds, say
        return other

    def trouble(self) -> str | None:
        """Why nothing can be written at this moment; None if it can."""
        try:
            with self.patient(1.0)._write():
                return None
        except LedgerError as error:
            return str(error)

    @contextmanager
    def _write(self) -> "Iterator[sql.Connection]":
        with self._clear(), ExitStack() as stack:
            yield self._begin(stack)

    def _begin(self, stack: ExitStack) -> "sql.Connection":
        """A transaction that has the write lock. Nothing has happened in it, so it is tried as often as one likes."""
        began = time.monotonic()
        said = False
        while True:
            try:
                return stack.enter_context(self.engine.execution_options(wait_ms=_SLICE_MS).begin())
            except sql.OperationalError as error:
                waited = time.monotonic() - began
                if not is_locked(error) or waited >= self._patience_s:
                    raise
                if waited >= SAID_AFTER_S and not said:
                    self._say(f"waiting for the ledger: {locked(self.url)}")
                    said = True

    @contextmanager
    def _read(self) -> "Iterator[sql.Connection]":
        with self._clear(), self.engine.execution_options(writes=False).connect() as connection:
            yield connection

    @contextmanager
    def _clear(self) -> Iterator[None]:
        """What the database says of itself, in words of ours. Its own are a page of SQL."""
        try:
            yield
        except sql.OperationalError as error:
            raise LedgerError(unavailable(error, self.url, self._patience_s)) from error

    # -- requests ---------------------------------------------------------------------------------------------------

    def requests(self, project: str) -> list[Request]:
        """The project's requests, oldest first."""
        with self._read() as c:
            rows = c.execute(
                sql.select(sql.requests).where(sql.requests.c.project == project).order_by(sql.requests.c.id)
            )
            return [self._request(r._mapping) for r in rows]

    def request_of_run(self, run_id: str) -> Request | None:
        with self._read() as c:
            row = c.execute(
                sql.select(sql.requests).where(sql.requests.c.run_id == run_id).order_by(sql.requests.c.id.desc())
            ).first()
            return self._request(row._mapping) if row else None

    def _request(self, row: Mapping[Any, Any]) -> Request:
        return Request(**{k: row[k] for k in Request.model_fields})

    def open_request(
        self,
        project: str,
        revision: str,
        generation: int,
        reason: str,
        *,
        status: Status = "queued",
        asked_by: str = "sensor",
        base: str | None = None,
    ) -> Request:
        """Inserts the row that is the lock of this change.

        Raises:
            Conflict: this generation exists already, or another request of the project is at work.
        """
        now = self.clock()
        row = {
            "project": project,
            "revision": revision,
            "generation": generation,
            "status": status,
            "reason": reason,
            "asked_by": asked_by,
            "base": base,
            "tries": 1,
            "detail": "",
            "created": now,
            "updated": now,
        }
        try:
            with self._write() as c:
                identity = c.execute(sql.insert(sql.requests).values(row)).inserted_primary_key
                if status in ACTIVE:
                    if asked_by != ROLLBACK:
                        self._supersede_waiting(c, project, revision)
                    c.execute(sql.insert(sql.active_requests).values(project=project, request=identity[0]))  # type: ignore[index]
                self._audit(
                    c,
                    {
                        "event": "request",
                        **{k: row[k] for k in ("project", "revision", "generation", "status", "reason", "asked_by")},
                    },
                )
        except sql.IntegrityError as error:
            raise Conflict(
                f"{project}:{revision}:{generation} or another request of {project} is there already"
            ) from error
        return Request(
            project=project,
            revision=revision,
            generation=generation,
            status=status,
            reason=reason,
            asked_by=asked_by,
            base=base,
        )

    def next_generation(self, request: Request, generation: int, reason: str) -> Request:
        """Closes a request whose run died, or that a person approved, and opens the next generation of it at once.

        Raises:
            Conflict: somebody else did so already.
        """
        now = self.clock()
        try:
            with self._write() as c:
                self._leave(c, request, "done" if request.status == "waiting" else "failed", reason)
                old = c.execute(sql.select(sql.requests).where(self._is(request))).one()._mapping
                row = {k: old[k] for k in ("project", "revision", "base")} | {
                    "generation": generation,
                    "status": "queued",
                    "asked_by": request.asked_by,
                    "tries": 1 if request.status == "waiting" else old["tries"] + 1,
                    "detail": "",
                    "reason": f"{_WHY_AGAIN.split(request.reason)[0]} ({reason})",
                    "created": now,
                    "updated": now,
                }
                identity = c.execute(sql.insert(sql.requests).values(row)).inserted_primary_key
                c.execute(sql.insert(sql.active_requests).values(project=request.project, request=identity[0]))  # type: ignore[index]
                self._audit(
                    c, {"event": "next generation", "request": request.name, "generation": generation, "reason": reason}
                )
        except sql.IntegrityError as error:
            raise Conflict(f"generation {generation} of {request.name} is there already") from error
        return request.model_copy(
            update={k: row[k] for k in ("generation", "status", "reason", "tries")} | {"run_id": None}
        )

    def claim(self, request: Request, run_id: str) -> None:
        """Binds a queued request to the run that works on it; repeating it for the same run does nothing.

        Raises:
            Conflict: another run has it, or it is closed.
        """
        free = self._is(request) & sql.requests.c.run_id.is_(None) & sql.requests.c.status.in_(ACTIVE)
        with self._write() as c:
            # The condition stands in the update itself: between a look and a write, PostgreSQL lets others in.
            taken = c.execute(
                sql.update(sql.requests).where(free).values(status="running", run_id=run_id, updated=self.clock())
            )
            if taken.rowcount == 1:
                return
            row = c.execute(sql.select(sql.requests.c.run_id, sql.requests.c.status).where(self._is(request))).first()
            if row is not None and row.run_id == run_id and row.status not in ("cancelled", "superseded"):
                return  # also after its outcome: health is asked once production is settled
            held = f"run {row.run_id}, {row.status}" if row else "nobody"
            raise Conflict(f"{request.name} belongs to {held}")

    def close(self, request: Request, status: Status, detail: str) -> bool:
        """Ends an active request with its outcome, or has it wait for a person.

        Returns:
            False if it was closed already: the first outcome stays.
        """
        with self._write() as c:
            done = c.execute(
                sql.update(sql.requests)
                .where(self._is(request), sql.requests.c.status.in_(ACTIVE))
                .values(status=status, detail=detail, updated=self.clock())
            )
            if done.rowcount != 1:
                return False
            c.execute(sql.delete(sql.active_requests).where(sql.active_requests.c.project == request.project))
            self._audit(c, {"event": "closed", "request": request.name, "status": status, "detail": detail})
            return True

    @staticmethod
    def _is(request: Request) -> Any:
        r = sql.requests.c
        return (r.project == request.project) & (r.revision == request.revision) & (r.generation == request.generation)

    # -- pins -------------------------------------------------------------------------------------------------------

    def pin(self, run_id: str, project: str, revision: str) -> str:
        """The revision of a root run: the first one that was put there."""
        where = (sql.pins.c.run_id == run_id) & (sql.pins.c.project == project)
        try:
            with self._write() as c:
                c.execute(sql.insert(sql.pins).values(run_id=run_id, project=project, revision=revision))
            return revision
        except sql.IntegrityError:
            with self._read() as c:
                return str(c.execute(sql.select(sql.pins.c.revision).where(where)).scalar_one())

    def pinned(self, run_id: str, project: str) -> str | None:
        where = (sql.pins.c.run_id == run_id) & (sql.pins.c.project == project)
        with self._read() as c:
            return c.execute(sql.select(sql.pins.c.revision).where(where)).scalar()

    # -- records and edges ------------------------------------------------------------------------------------------

    def find(self, key: str) -> AnyRecord | None:
        """The record committed under a key; None also where this version of the code cannot read it."""
        with self._read() as c:
            body = c.execute(sql.select(sql.records.c.body).where(sql.records.c.key == key)).scalar()
        return _parsed(body)[0] if body else None

    def unreadable(self, key: str) -> str | None:
        """Why the record under a key cannot be read by this version of the code; None if it can, or there is none."""
        with self._read() as c:
            row = c.execute(sql.select(sql.records.c.stage, sql.records.c.body).where(sql.records.c.key == key)).first()
        if row is None or (why := _parsed(row.body)[1]) is None:
            return None
        return f"the record of {row.stage} in the ledger cannot be read by this version of the code ({why})"

    def has_record(self, prefix: str) -> bool:
        """Whether a record is committed under a key that begins so."""
        query = sql.select(sql.records.c.key).where(sql.records.c.key.startswith(prefix)).limit(1)
        with self._read() as c:
            return c.execute(query).first() is not None

    def commit(self, record: Record) -> AnyRecord:
        """Conditional create: the first record under a key wins, and is what everyone gets back."""
        row = {"key": record.key, "stage": record.stage, "body": record.model_dump_json(), "created": self.clock()}
        with suppress(sql.IntegrityError), self._write() as c:
            c.execute(sql.insert(sql.records).values(row))
        found = self.find(record.key)  # somebody may have committed the same work first: then theirs is adopted
        if found is not None:
            return found
        why = self.unreadable(record.key)
        with self._write() as c:
            c.execute(sql.delete(sql.records).where(sql.records.c.key == record.key))
            c.execute(sql.insert(sql.records).values(row))
            self._audit(c, {"event": "replaced record", "key": record.key, "reason": why})
        return record  # type: ignore[return-value]

    def salt_of(self, key: str) -> str | None:
        """The salt of the newest deliberate rebuild of what this (unsalted) key stands for."""
        with self._read() as c:
            return c.execute(sql.select(sql.rebuilds.c.salt).where(sql.rebuilds.c.key == key)).scalar()

    def rebuild(self, key: str, reason: str) -> None:
        """From now on, what stands under this (unsalted) key is to be made anew."""
        salt = f"{reason} ({self.clock():.3f})"
        with self._write() as c:
            c.execute(sql.delete(sql.rebuilds).where(sql.rebuilds.c.key == key))
            c.execute(sql.insert(sql.rebuilds).values(key=key, salt=salt))
            self._audit(c, {"event": "rebuild", "key": key, "reason": reason})

    def forget(self, key: str, why: str) -> None:
        """Drops a record whose artifact is gone or damaged, so that it is made again."""
        with self._write() as c:
            c.execute(sql.delete(sql.records).where(sql.records.c.key == key))
            self._audit(c, {"event": "forgot record", "key": key, "reason": why})

    def demand(self, project: str, revision: str, record: Record, reused: bool) -> None:
        """Writes the lineage edge (project, revision, stage → record)."""
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
        """Edges of a revision by stage."""
        with self._read() as c:
            rows = c.execute(
                sql.select(sql.edges).where(sql.edges.c.project == project, sql.edges.c.revision == revision)
            )
            return {
                r.stage: Edge(project=r.project, revision=r.revision, stage=r.stage, key=r.key, reused=r.reused)
                for r in rows
            }

    def records_of(self, project: str, revision: str) -> dict[str, AnyRecord]:
        """The records that a revision demanded, by stage."""
        query = sql.select(sql.edges.c.stage, sql.records.c.body).join_from(
            sql.edges, sql.records, sql.edges.c.key == sql.records.c.key
        )
        with self._read() as c:
            rows = c.execute(query.where(sql.edges.c.project == project, sql.edges.c.revision == revision))
            read = {r.stage: _parsed(r.body)[0] for r in rows}
        return {stage: record for stage, record in read.items() if record is not None}

    # -- verdicts, releases, servings -------------------------------------------------------------------------------

    def add_verdict(self, project: str, revision: str, stage: str, verdict: Verdict) -> None:
        with self._write() as c:
            c.execute(
                sql.insert(sql.verdicts).values(
                    project=project,
                    revision=revision,
                    stage=stage,
                    passed=verdict.passed,
                    body=verdict.model_dump_json(),
                    created=self.clock(),
                )
            )

    def verdicts(self, project: str, revision: str) -> list[tuple[str, Verdict]]:
        """(stage, verdict), oldest first."""
        with self._read() as c:
            rows = c.execute(
                sql.select(sql.verdicts)
                .where(sql.verdicts.c.project == project, sql.verdicts.c.revision == revision)
                .order_by(sql.verdicts.c.id)
            )
            return [(r.stage, Verdict.model_validate_json(r.body)) for r in rows]

    def add_release(self, release: Release, revision: str) -> None:
        """Remembers a release; the first revision that made it stays its author."""
        try:
            with self._write() as c:
                c.execute(
                    sql.insert(sql.releases).values(
                        digest=release.digest,
                        project=release.project,
                        revision=revision,
                        body=release.model_dump_json(),
                        created=self.clock(),
                    )
                )
        except sql.IntegrityError:
            return  # known already: a revert makes a release that exists

    def release(self, digest_or_prefix: str) -> Release | None:
        with self._read() as c:
            bodies = c.execute(
                sql.select(sql.releases.c.body).where(sql.releases.c.digest.startswith(digest_or_prefix))
            ).scalars()
            found = [Release.model_validate_json(b) for b in bodies]
        return found[0] if len(found) == 1 else None

    def revision_of_release(self, project: str, digest_or_prefix: str) -> tuple[str, str] | None:
        """(revision, digest) of a release that a person named; None if there is none, or several."""
        if len(digest_or_prefix) < 6:
            return None
        where = (sql.releases.c.project == project) & sql.releases.c.digest.startswith(digest_or_prefix)
        with self._read() as c:
            found = c.execute(sql.select(sql.releases.c.revision, sql.releases.c.digest).where(where)).all()
        return (found[0].revision, found[0].digest) if len(found) == 1 else None

    def serve(self, project: str, environment: str, release: str, revision: str) -> None:
        """Notes that an environment serves a release from now on; nothing if it is the same revision and release."""
        now = self.serving(project, environment)
        if now and (now.release, now.revision) == (release, revision):
            return
        with self._write() as c:
            c.execute(
                sql.insert(sql.servings).values(
                    project=project, environment=environment, release=release, revision=revision, since=self.clock()
                )
            )
            self._audit(
                c,
                {
                    "event": "serves",
                    "project": project,
                    "environment": environment,
                    "release": release,
                    "revision": revision,
                },
            )

    def serving(self, project: str, environment: str) -> Serving | None:
        where = (sql.servings.c.project == project) & (sql.servings.c.environment == environment)
        with self._read() as c:
            row = c.execute(sql.select(sql.servings).where(where).order_by(sql.servings.c.id.desc()).limit(1)).first()
        return Serving(row.release, row.revision, row.since) if row else None

    def has_served(self, project: str, release: str, environment: str = "production") -> bool:
        where = (sql.servings.c.project == project) & (sql.servings.c.environment == environment)
        with self._read() as c:
            return (
                c.execute(
                    sql.select(sql.servings.c.id).where(where, sql.servings.c.release == release).limit(1)
                ).first()
                is not None
            )

    # -- rollouts ---------------------------------------------------------------------------------------------------

    def rollout(self, project: str) -> tuple[int, int, str, RolloutState] | None:
        """The project's newest rollout: (id, version, revision, state)."""
        with self._read() as c:
            row = c.execute(
                sql.select(sql.rollouts)
                .where(sql.rollouts.c.project == project)
                .order_by(sql.rollouts.c.id.desc())
                .limit(1)
            ).first()
        return (row.id, row.version, row.revision, RolloutState.model_validate_json(row.body)) if row else None

    def begin_rollout(self, project: str, revision: str, state: RolloutState) -> tuple[int, int]:
        """Stores the first state; returns (id, version)."""
        with self._write() as c:
            done = c.execute(
                sql.insert(sql.rollouts).values(
                    project=project,
                    release=state.release,
                    revision=revision,
                    version=1,
                    status=state.status,
                    body=state.model_dump_json(),
                    updated=self.clock(),
                )
            )
            self._audit(
                c, {"event": "rollout", "project": project, "release": state.release, "replaces": state.replaces}
            )
            return int(done.inserted_primary_key[0]), 1  # type: ignore[index]

    def save_rollout(self, identity: int, version: int, state: RolloutState) -> int:
        """Compare and set: stores the next state and returns its version.

        Raises:
            Conflict: another run moved the rollout since `version` was read.
        """
        with self._write() as c:
            done = c.execute(
                sql.update(sql.rollouts)
                .where(sql.rollouts.c.id == identity, sql.rollouts.c.version == version)
                .values(version=version + 1, status=state.status, body=state.model_dump_json(), updated=self.clock())
            )
            if done.rowcount != 1:
                raise Conflict(f"rollout {identity} was moved by somebody else since version {version}")
            if state.status != "running":
                self._audit(
                    c, {"event": f"rollout {state.status}", "release": state.release, "reasons": list(state.reasons)}
                )
        return version + 1

    # -- audit ------------------------------------------------------------------------------------------------------

    def _audit(self, c: "sql.Connection", what: Mapping[str, Any]) -> None:
        if c.dialect.name == "postgresql":
            # SQLite has one writer at a time. Here two would both follow the same event, and break the chain.
            c.exec_driver_sql("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE")
        previous = c.execute(sql.select(sql.audit.c.hash).order_by(sql.audit.c.id.desc()).limit(1)).scalar() or ""
        text, at = json.dumps(dict(what), sort_keys=True), self.clock()
        c.execute(sql.insert(sql.audit).values(at=at, event=text, previous=previous, hash=digest([previous, at, text])))

    def events(self) -> list[dict[str, Any]]:
        """Every audited event, oldest first: id, at (epoch seconds), hash, and what happened."""
        with self._read() as c:
            rows = c.execute(sql.select(sql.audit).order_by(sql.audit.c.id))
            return [{"id": r.id, "at": r.at, **json.loads(r.event), "hash": r.hash} for r in rows]

    def verify_audit(self) -> int:
        """The number of audited events, if the chain is whole.

        Raises:
            LedgerError: names the first row that does not fit.
        """
        previous, count = "", 0
        with self._read() as c:
            for row in c.execute(sql.select(sql.audit).order_by(sql.audit.c.id)):
                if row.previous != previous or row.hash != digest([row.previous, row.at, row.event]):
                    raise LedgerError(f"audit event {row.id} was altered, or the one before it removed")
                previous, count = row.hash, count + 1
        return count


def _parsed(body: str) -> tuple[AnyRecord | None, str | None]:
    """A record, or why it is none: newer code may have written it."""
    try:
        return parse_record(body), None
    except ValidationError as error:
        first = error.errors()[0]
        return None, f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"


_WHY_AGAIN = re.compile(r" \((?:generation |approved by )")
"""Where a request's reason ends and that of an earlier generation begins: they do not pile up."""
