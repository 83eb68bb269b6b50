"""Human decisions: approvals, holds and rollbacks, each with its audit event in one transaction.

`llmops_assets.domain.approval` decides whether a decision is valid.
"""

from llmops_assets.domain.approval import Decision
from llmops_assets.domain.requests import Request
from llmops_assets.domain.rollback import Hold, rollback_target
from resources.ledger import sql
from resources.ledger.collection import Collection
from resources.ledger.faults import Conflict
from resources.ledger.releases import Releases
from resources.ledger.requests import Requests


class Decisions(Requests, Releases, Collection):
    """The tables `approvals` and `holds`."""

    def decide(self, decision: Decision, request: Request | None = None) -> None:
        """Adds a decision. A rejection also closes the request that waits for it.

        Raises:
            Conflict: the request no longer waits; nothing was added.
        """
        ask = decision.ask
        with self._write() as c:
            c.execute(
                sql.insert(sql.approvals).values(
                    project=ask.project,
                    release=ask.release,
                    choice=decision.choice,
                    decided_by=decision.by,
                    body=decision.model_dump_json(),
                    created=decision.at,
                )
            )
            said = decision.model_dump(include={"revision", "by", "reason"})
            self._audit(c, {"event": decision.choice, **said, **ask.model_dump()})
            if request is not None and decision.choice == "rejected":
                detail = f"rejected by {decision.by}: {decision.reason}"
                waits = self._is(request) & (sql.requests.c.status == "waiting")
                values = {"status": "rejected", "detail": detail, "updated": self.clock()}
                if c.execute(sql.update(sql.requests).where(waits).values(values)).rowcount != 1:
                    raise Conflict(f"{request.name} no longer waits")
                self._audit(c, {"event": "closed", "request": request.name, "status": "rejected", "detail": detail})

    def decisions(self, project: str, release: str) -> list[Decision]:
        """The decisions on a release, oldest first."""
        where = (sql.approvals.c.project == project) & (sql.approvals.c.release == release)
        with self._read() as c:
            bodies = c.execute(sql.select(sql.approvals.c.body).where(where).order_by(sql.approvals.c.id)).scalars()
            return [Decision.model_validate_json(b) for b in bodies]

    def holds(self, project: str) -> list[Hold]:
        """A project's currently held releases, oldest first."""
        query = (
            sql.select(sql.holds)
            .where(sql.holds.c.project == project, sql.holds.c.lifted.is_(None))
            .order_by(sql.holds.c.id)
        )
        with self._read() as c:
            return [
                Hold(project=r.project, release=r.release, reason=r.reason, by=r.held_by, since=r.since)
                for r in c.execute(query)
            ]

    def hold_on(self, project: str, release: str) -> Hold | None:
        return next((h for h in self.holds(project) if h.release == release), None)

    def rollback_target(self, project: str, named: str | None) -> tuple[str, str]:
        """(release, revision) to roll back to.

        Raises:
            NoTarget: there is no such release.
        """
        served = self.served(project)
        held = [h.release for h in self.holds(project)]
        releases = [release for release, _, _ in served]
        target = rollback_target(releases, held, named or None, self.collected_releases(project))
        return target, next(revision for release, revision, _ in reversed(served) if release == target)

    def roll_back(self, project: str, release: str, revision: str, hold: Hold) -> None:
        """Records in one transaction that production serves an earlier release and that the replaced one is held."""
        now = self.clock()
        row = {"project": project, "environment": "production", "release": release, "revision": revision, "since": now}
        kept = {"project": project, "release": hold.release, "reason": hold.reason}
        with self._write() as c:
            c.execute(sql.insert(sql.servings).values(row))
            c.execute(sql.insert(sql.holds).values(**kept, held_by=hold.by, since=now))
            self._audit(c, {"event": "rolled back", "to": release, "revision": revision, "by": hold.by, **kept})

    def lift(self, project: str, releases: list[str], by: str, reason: str) -> list[str]:
        """Lifts the holds on these releases; returns those that were held."""
        held = (sql.holds.c.project == project) & sql.holds.c.release.in_(releases) & sql.holds.c.lifted.is_(None)
        with self._write() as c:
            found = list(dict.fromkeys(c.execute(sql.select(sql.holds.c.release).where(held)).scalars()))
            if found:
                c.execute(sql.update(sql.holds).where(held).values(lifted=self.clock()))
                what = {"event": "lifted", "project": project, "releases": found, "by": by, "reason": reason}
                self._audit(c, what)
            return found
