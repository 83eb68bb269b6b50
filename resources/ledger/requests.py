"""Requests, which make one change one run, and the revision that a run is pinned to.

`llmops_assets.domain.requests` decides when to open a request and when to wait.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_assets.domain.requests import ACTIVE, CLICK, ELSEWHERE, ROLLBACK, Request, Status
from resources.ledger import sql
from resources.ledger.faults import Conflict
from resources.ledger.transactions import Transactions

_WHY_AGAIN = re.compile(r" \((?:generation |approved by |reviewed by |no review |budget )")
"""Splits off the reason of an earlier generation, so that reasons do not accumulate."""


def request_of(row: Mapping[Any, Any]) -> Request:
    """The request in a row of the table."""
    return Request(**{k: row[k] for k in Request.model_fields} | {"stages": tuple((row["stages"] or "").split())})


class Requests(Transactions):
    """The tables `requests`, `active_requests` and `pins`."""

    def requests(self, project: str) -> list[Request]:
        """The project's requests, oldest first."""
        with self._read() as c:
            rows = c.execute(
                sql.select(sql.requests).where(sql.requests.c.project == project).order_by(sql.requests.c.id)
            )
            return [self._request(r._mapping) for r in rows]

    def request(self, name: str) -> Request | None:
        """The request of this name, `project:revision:generation`; None if there is none."""
        project, _, rest = name.partition(":")
        revision, _, generation = rest.rpartition(":")
        r = sql.requests.c
        named = (r.project == project) & (r.revision == revision)
        if not generation.isdecimal():
            return None
        with self._read() as c:
            row = c.execute(sql.select(sql.requests).where(named & (r.generation == int(generation)))).first()
        return self._request(row._mapping) if row else None

    def now(self, request: Request) -> Request:
        """The request, read again."""
        found = self.request(request.name)
        assert found is not None, "requests are never deleted"
        return found

    def request_times(self, project: str) -> dict[str, tuple[float, float]]:
        """When each request was made and last changed, by its name: epoch seconds."""
        r = sql.requests.c
        with self._read() as c:
            rows = c.execute(sql.select(r.revision, r.generation, r.created, r.updated).where(r.project == project))
            return {f"{project}:{w.revision}:{w.generation}": (w.created, w.updated) for w in rows}

    def active_request(self, project: str) -> Request | None:
        """The project's queued or running request; there is at most one."""
        active = (sql.requests.c.project == project) & sql.requests.c.status.in_([*ACTIVE])
        with self._read() as c:
            row = c.execute(sql.select(sql.requests).where(active).order_by(sql.requests.c.id.desc()).limit(1)).first()
        return self._request(row._mapping) if row else None

    def _request(self, row: Mapping[Any, Any]) -> Request:
        return request_of(row)

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
        stages: Sequence[str] = (),
        model: str = "",
    ) -> Request:
        """Inserts the row that is the lock of this change.

        Raises:
            Conflict: this generation already exists, or another request of the project is active.
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
            "stages": " ".join(stages) or None,
            "model": model,
        }
        try:
            with self._write() as c:
                identity = c.execute(sql.insert(sql.requests).values(row)).inserted_primary_key
                if status in ACTIVE:
                    deploys = not stages or "production_endpoint" in stages
                    if deploys and asked_by not in (ROLLBACK, CLICK, *ELSEWHERE):
                        self._supersede_waiting(c, project, revision)
                    c.execute(sql.insert(sql.active_requests).values(project=project, request=identity[0]))  # type: ignore[index]
                self._audit(
                    c,
                    {
                        "event": "request",
                        **{k: row[k] for k in ("project", "revision", "generation", "status", "reason", "asked_by")},
                        **({"stages": list(stages)} if stages else {}),
                        **({"model": model} if model else {}),
                    },
                )
        except sql.IntegrityError as error:
            raise Conflict(
                f"{project}:{revision}:{generation} already exists, or another request of {project} is active"
            ) from error
        return Request(
            project=project,
            revision=revision,
            generation=generation,
            status=status,
            reason=reason,
            asked_by=asked_by,
            base=base,
            stages=tuple(stages),
            model=model,
        )

    def next_generation(self, request: Request, generation: int, reason: str) -> Request:
        """Closes a request whose run died, or that was approved, and opens its next generation, in one transaction.

        Raises:
            Conflict: another process already did.
        """
        now = self.clock()
        try:
            with self._write() as c:
                self._leave(c, request, "done" if request.status == "waiting" else "failed", reason)
                old = c.execute(sql.select(sql.requests).where(self._is(request))).one()._mapping
                row = {k: old[k] for k in ("project", "revision", "base", "stages", "model")} | {
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
            raise Conflict(f"generation {generation} of {request.name} already exists") from error
        return request.model_copy(
            update={k: row[k] for k in ("generation", "status", "reason", "tries")} | {"run_id": None}
        )

    def claim(self, request: Request, run_id: str) -> None:
        """Binds a queued request to its run; idempotent for the same run.

        Raises:
            Conflict: the request belongs to another run, or is closed.
        """
        free = self._is(request) & sql.requests.c.run_id.is_(None) & sql.requests.c.status.in_(ACTIVE)
        with self._write() as c:
            # The condition is part of the update: PostgreSQL allows other writers between a read and a write.
            taken = c.execute(
                sql.update(sql.requests).where(free).values(status="running", run_id=run_id, updated=self.clock())
            )
            if taken.rowcount == 1:
                return
            row = c.execute(sql.select(sql.requests.c.run_id, sql.requests.c.status).where(self._is(request))).first()
            if row is not None and row.run_id == run_id and row.status not in ("cancelled", "superseded"):
                return  # also after its outcome: the health check runs after the rollout has ended
            held = f"run {row.run_id}, {row.status}" if row else "no run: it is not in the ledger"
            raise Conflict(f"{request.name} belongs to {held}")

    def close(self, request: Request, status: Status, detail: str) -> bool:
        """Closes an active request with its outcome, or makes it wait for approval.

        Returns:
            False if it was already closed: the first outcome is kept.
        """
        with self._write() as c:
            return self._close(c, request, status, detail)

    def _close(self, c: "sql.Connection", request: Request, status: Status, detail: str) -> bool:
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

    def settle_waiting(self, request: Request, status: Status, detail: str) -> bool:
        """Closes a waiting request without a decision. Returns False if it no longer waits."""
        with self._write() as c:
            try:
                self._leave(c, request, status, detail)
            except Conflict:
                return False
            self._audit(c, {"event": "closed", "request": request.name, "status": status, "detail": detail})
            return True

    def _supersede_waiting(self, c: "sql.Connection", project: str, revision: str) -> None:
        """Closes waiting requests in favour of a newer run: there is one release to approve, not a queue.

        Not those of other branches: they have no release that the newer one replaces.
        """
        detail = f"a newer commit, {revision[:12]}, has been planned since"
        r = sql.requests.c
        replaced = r.asked_by.not_in([*ELSEWHERE]) | (r.revision == revision)
        waits = (r.project == project) & (r.status == "waiting") & replaced
        for row in c.execute(sql.select(sql.requests.c.revision, sql.requests.c.generation).where(waits)).all():
            name = f"{project}:{row.revision}:{row.generation}"
            self._audit(c, {"event": "closed", "request": name, "status": "superseded", "detail": detail})
        values = {"status": "superseded", "detail": detail, "updated": self.clock()}
        c.execute(sql.update(sql.requests).where(waits).values(values))

    def _leave(self, c: "sql.Connection", request: Request, status: str, detail: str) -> None:
        """Closes a request that the next generation replaces.

        Raises:
            Conflict: it is no longer active or waiting.
        """
        still = (
            sql.requests.c.status.in_([*ACTIVE]) if request.status != "waiting" else sql.requests.c.status == "waiting"
        )
        values = {"status": status, "detail": detail, "updated": self.clock()}
        if c.execute(sql.update(sql.requests).where(self._is(request), still).values(values)).rowcount != 1:
            raise Conflict(f"{request.name} is no longer {request.status}")
        if request.status != "waiting":
            c.execute(sql.delete(sql.active_requests).where(sql.active_requests.c.project == request.project))

    # -- pins -------------------------------------------------------------------------------------------------------

    def pin(self, run_id: str, project: str, revision: str) -> str:
        """Pins a root run to a revision and returns it; the first pin is kept."""
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
