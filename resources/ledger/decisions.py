"""Human decisions: approvals, reviews, budgets, holds and rollbacks, each with its audit event in one transaction.

`llmops_assets.domain.approval` and `llmops_assets.domain.report_review` decide whether a decision is valid.
"""

from llmops_assets.domain.approval import Decision
from llmops_assets.domain.budget import BudgetDecision
from llmops_assets.domain.keys import short
from llmops_assets.domain.report_review import Registration, ReviewDecision
from llmops_assets.domain.requests import ACTIVE, Request
from llmops_assets.domain.rollback import Hold, NoTarget, rollback_target, rolled_back
from llmops_assets.domain.rollout import RolloutState
from resources.ledger import sql
from resources.ledger.collection import Collection
from resources.ledger.faults import Conflict
from resources.ledger.releases import Releases
from resources.ledger.requests import Requests


class Decisions(Requests, Releases, Collection):
    """The tables `approvals`, `reviews`, `budget_decisions` and `holds`."""

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
                self._reject(c, request, decision.by, decision.reason)

    def _reject(self, c: "sql.Connection", request: Request, by: str, reason: str) -> None:
        """Closes the request that waits for this decision.

        Raises:
            Conflict: it no longer waits.
        """
        detail = f"rejected by {by}: {reason}"
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

    def review(self, decision: ReviewDecision, request: Request | None = None) -> None:
        """Adds a decision on an evaluation report. A rejection also closes the request that waits for it.

        Raises:
            Conflict: the request no longer waits; nothing was added.
        """
        with self._write() as c:
            self._add_review(c, decision.choice, decision)
            said = decision.model_dump(include={"revision", "by", "reason"})
            self._audit(c, {"event": f"review {decision.choice}", **said, **decision.ask.model_dump()})
            if request is not None and decision.choice == "rejected":
                self._reject(c, request, decision.by, decision.reason)

    def registered(self, registration: Registration) -> None:
        """Adds that reviews led to a registration: from then on they do not expire."""
        with self._write() as c:
            self._add_review(c, "registered", registration)
            said = registration.model_dump(include={"revision", "by"})
            self._audit(c, {"event": "registered on review", **said, **registration.ask.model_dump()})

    def _add_review(self, c: "sql.Connection", what: str, of: ReviewDecision | Registration) -> None:
        c.execute(
            sql.insert(sql.reviews).values(
                project=of.ask.project, report=of.ask.report, what=what, body=of.model_dump_json(), created=of.at
            )
        )

    def reviews(self, project: str, report: str) -> tuple[list[ReviewDecision], list[Registration]]:
        """The decisions on an evaluation report, and the registrations on it, oldest first."""
        r = sql.reviews.c
        with self._read() as c:
            where = (r.project == project) & (r.report == report)
            rows = c.execute(sql.select(r.what, r.body).where(where).order_by(r.id)).all()
        return (
            [ReviewDecision.model_validate_json(row.body) for row in rows if row.what != "registered"],
            [Registration.model_validate_json(row.body) for row in rows if row.what == "registered"],
        )

    def decide_budget(self, decision: BudgetDecision, request: Request | None = None) -> None:
        """Adds a decision on a run over its budget. A rejection also closes the request that waits for it.

        Raises:
            Conflict: the request no longer waits; nothing was added.
        """
        ask = decision.ask
        row = {"project": ask.project, "revision": ask.revision, "choice": decision.choice}
        with self._write() as c:
            c.execute(
                sql.insert(sql.budget_decisions).values(**row, body=decision.model_dump_json(), created=decision.at)
            )
            said = decision.model_dump(include={"by", "reason"})
            self._audit(c, {"event": f"budget {decision.choice}", **said, **ask.model_dump(mode="json")})
            if request is not None and decision.choice == "rejected":
                self._reject(c, request, decision.by, decision.reason)

    def budget_decisions(self, project: str, revision: str) -> list[BudgetDecision]:
        """The decisions on a commit's budget, oldest first."""
        b = sql.budget_decisions.c
        query = sql.select(b.body).where(b.project == project, b.revision == revision).order_by(b.id)
        with self._read() as c:
            return [BudgetDecision.model_validate_json(body) for body in c.execute(query).scalars()]

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

    def production_history(self, project: str) -> list[tuple[str, str, float, bool]]:
        """(release, revision, since, whether a rollback brought it) of all that production served, oldest first."""
        held = sql.select(sql.holds.c.since).where(sql.holds.c.project == project)
        with self._read() as c:
            rollbacks = set(c.execute(held).scalars())  # in one transaction with what production serves instead
        return [(release, revision, at, at in rollbacks) for release, revision, at in self.served(project)]

    def hold_on(self, project: str, release: str) -> Hold | None:
        return next((h for h in self.holds(project) if h.release == release), None)

    def rollback_target(self, project: str, named: str | None) -> tuple[str, str]:
        """(release, revision) to roll back to; by default one step, however often it is asked for.

        Raises:
            NoTarget: there is no such release, or production was rolled back already and no release is named.
        """
        served, holds = self.served(project), self.holds(project)
        releases, held = [release for release, _, _ in served], [h.release for h in holds]
        last = None if named else rolled_back(releases, holds)
        try:
            target = rollback_target(releases, held, named or None, self.collected_releases(project))
        except NoTarget:
            if last is None:
                raise
            further = "It served no earlier release that is not held"
        else:
            further = (
                f"To go further back, name the release: `llmops rollback {project} --to {short(target)} --reason ...`"
            )
        if last is not None:
            raise NoTarget(
                f"production serves {short(releases[-1])} since {last.by} rolled {short(last.release)} back "
                f"({last.reason}), and nothing was changed now. {further}"
            )
        return target, next(revision for release, revision, _ in reversed(served) if release == target)

    def roll_back(self, project: str, release: str, revision: str, hold: Hold) -> None:
        """Records in one transaction that production serves an earlier release and that the replaced one is held."""
        with self._write() as c:
            self._roll_back(c, project, release, revision, hold)

    def _roll_back(self, c: "sql.Connection", project: str, release: str, revision: str, hold: Hold) -> None:
        now = self.clock()
        row = {"project": project, "environment": "production", "release": release, "revision": revision, "since": now}
        kept = {"project": project, "release": hold.release, "reason": hold.reason}
        c.execute(sql.insert(sql.servings).values(row))
        c.execute(sql.insert(sql.holds).values(**kept, held_by=hold.by, since=now))
        self._audit(c, {"event": "rolled back", "to": release, "revision": revision, "by": hold.by, **kept})

    def promote(
        self, identity: int, version: int, state: RolloutState, request: Request, revision: str, hold: Hold | None
    ) -> int:
        """Records in one transaction that a rollout was promoted and that production serves its release.

        A cancellation comes before it or after it, never in between. A rollback also holds the replaced release;
        another release lifts all holds. A request by hand is closed too: what it asked for is done.

        Raises:
            Conflict: the request is no longer active, or the rollout was changed; nothing was recorded.
        """
        project = request.project
        with self._write() as c:
            # An update and not a read: on PostgreSQL it locks the row against a cancellation at the same time.
            active = self._is(request) & sql.requests.c.status.in_(ACTIVE)
            if c.execute(sql.update(sql.requests).where(active).values(updated=self.clock())).rowcount != 1:
                raise Conflict(f"{request.name} is no longer active")
            version = self._save_rollout(c, identity, version, state)
            if hold is not None:
                self._roll_back(c, project, state.release, revision, hold)
            else:
                self._serve(c, project, "production", state.release, revision)
                self._lift(c, project, None, short(revision), f"superseded by release {short(state.release)}")
            if request.by_hand:
                self._close(c, request, "done" if hold else "released", _done(state.release, hold))
        return version

    def lift(self, project: str, releases: list[str], by: str, reason: str) -> list[str]:
        """Lifts the holds on these releases; returns those that were held."""
        with self._write() as c:
            return self._lift(c, project, releases, by, reason)

    def _lift(self, c: "sql.Connection", project: str, releases: list[str] | None, by: str, reason: str) -> list[str]:
        """Lifts the holds on these releases, or all of the project's if `releases` is None."""
        held = (sql.holds.c.project == project) & sql.holds.c.lifted.is_(None)
        if releases is not None:
            held &= sql.holds.c.release.in_(releases)
        found = list(dict.fromkeys(c.execute(sql.select(sql.holds.c.release).where(held)).scalars()))
        if found:
            c.execute(sql.update(sql.holds).where(held).values(lifted=self.clock()))
            self._audit(c, {"event": "lifted", "project": project, "releases": found, "by": by, "reason": reason})
        return found


def _done(release: str, hold: Hold | None) -> str:
    if hold is None:
        return f"release {short(release)}: promoted"
    left = short(hold.release)
    return f"production rolled back from {left} to {short(release)} ({hold.reason}); {left} is held"
