"""Verdicts, releases, rollouts, and the history of what each environment served.

`gate` and `rollout` in `llmops_assets.domain` decide whether a release may proceed.
"""

from llmops_assets.domain.records import Release
from llmops_assets.domain.rollout import RolloutState
from llmops_assets.domain.verdict import Verdict
from resources.ledger import sql
from resources.ledger.faults import Conflict
from resources.ledger.transactions import Transactions


class ServedRelease:
    """What an environment serves: release digest, the revision that deployed it, and the start time (epoch seconds)."""

    def __init__(self, release: str, revision: str, since: float):
        self.release, self.revision, self.since = release, revision, since


class Releases(Transactions):
    """The tables `verdicts`, `releases`, `servings`, `rollouts` and `projections`."""

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

    def verdict_on(self, project: str, check: str, report: str, revision: str) -> tuple[str, str, Verdict] | None:
        """(revision, stage that evaluated it, verdict): on a report, for a check ('stage:check').

        The newest one of this revision, by whose gates it was judged; without one, the newest of all.
        """
        v = sql.verdicts.c
        where = (v.project == project) & v.body.contains(f'"check":"{check}"') & v.body.contains(f'"report":"{report}"')
        with self._read() as c:
            newest = sql.select(sql.verdicts).where(where).order_by((v.revision == revision).desc(), v.id.desc())
            row = c.execute(newest.limit(1)).first()
        return (row.revision, row.stage, Verdict.model_validate_json(row.body)) if row else None

    def add_release(self, release: Release, revision: str) -> None:
        """Stores a release; it keeps the first revision that produced it."""
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
            return  # it exists already: a revert produces an existing release

    def release(self, digest_or_prefix: str) -> Release | None:
        with self._read() as c:
            bodies = c.execute(
                sql.select(sql.releases.c.body).where(sql.releases.c.digest.startswith(digest_or_prefix))
            ).scalars()
            found = [Release.model_validate_json(b) for b in bodies]
        return found[0] if len(found) == 1 else None

    def releases(self, project: str) -> list[tuple[str, str]]:
        """(release, the revision that first produced it) of all of a project's releases, oldest first."""
        query = sql.select(sql.releases).where(sql.releases.c.project == project).order_by(sql.releases.c.created)
        with self._read() as c:
            return [(r.digest, r.revision) for r in c.execute(query)]

    def revision_of_release(self, project: str, digest_or_prefix: str) -> tuple[str, str] | None:
        """(revision, digest) of a release given by digest or prefix; None if none or several match."""
        if len(digest_or_prefix) < 6:
            return None
        where = (sql.releases.c.project == project) & sql.releases.c.digest.startswith(digest_or_prefix)
        with self._read() as c:
            found = c.execute(sql.select(sql.releases.c.revision, sql.releases.c.digest).where(where)).all()
        return (found[0].revision, found[0].digest) if len(found) == 1 else None

    def serve(self, project: str, environment: str, release: str, revision: str) -> None:
        """Records that an environment now serves a release; does nothing if revision and release are the same."""
        now = self.serving(project, environment)
        if now and (now.release, now.revision) == (release, revision):
            return
        with self._write() as c:
            self._serve(c, project, environment, release, revision)

    def _serve(self, c: "sql.Connection", project: str, environment: str, release: str, revision: str) -> None:
        row = {"project": project, "environment": environment, "release": release, "revision": revision}
        c.execute(sql.insert(sql.servings).values(**row, since=self.clock()))
        self._audit(c, {"event": "serves", **row})

    def serving(self, project: str, environment: str) -> ServedRelease | None:
        where = (sql.servings.c.project == project) & (sql.servings.c.environment == environment)
        with self._read() as c:
            row = c.execute(sql.select(sql.servings).where(where).order_by(sql.servings.c.id.desc()).limit(1)).first()
        return ServedRelease(row.release, row.revision, row.since) if row else None

    def has_served(self, project: str, release: str, environment: str = "production") -> bool:
        where = (sql.servings.c.project == project) & (sql.servings.c.environment == environment)
        with self._read() as c:
            return (
                c.execute(
                    sql.select(sql.servings.c.id).where(where, sql.servings.c.release == release).limit(1)
                ).first()
                is not None
            )

    def served(self, project: str) -> list[tuple[str, str, float]]:
        """(release, revision, since) of all that production served, oldest first; the last one is current."""
        where = (sql.servings.c.project == project) & (sql.servings.c.environment == "production")
        with self._read() as c:
            rows = c.execute(sql.select(sql.servings).where(where).order_by(sql.servings.c.id))
            return [(r.release, r.revision, r.since) for r in rows]

    def champion_since(self, project: str) -> tuple[str | None, float | None]:
        """The release in production and since when it has served without interruption by another release."""
        champion, came = None, None
        for release, _, since in reversed(self.served(project)):
            if champion not in (None, release):
                break
            champion, came = release, since
        return champion, came

    # -- projections --------------------------------------------------------------------------------------------------

    def projected(self, project: str, name: str) -> str | None:
        """The value that another system was last given for something that follows from the ledger."""
        where = (sql.projections.c.project == project) & (sql.projections.c.name == name)
        with self._read() as c:
            return c.execute(sql.select(sql.projections.c.value).where(where)).scalar()

    def note_projected(self, project: str, name: str, value: str) -> None:
        """Records that another system has this value now, so that it is not asked again."""
        where = (sql.projections.c.project == project) & (sql.projections.c.name == name)
        with self._write() as c:
            if c.execute(sql.update(sql.projections).where(where).values(value=value)).rowcount == 0:
                c.execute(sql.insert(sql.projections).values(project=project, name=name, value=value))

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

    def rollouts(self, project: str, newest: int) -> list[tuple[int, str, RolloutState, float]]:
        """(id, revision, state, time of its last change) of a project's rollouts, newest first."""
        query = sql.select(sql.rollouts).where(sql.rollouts.c.project == project)
        with self._read() as c:
            rows = c.execute(query.order_by(sql.rollouts.c.id.desc()).limit(newest))
            return [(r.id, r.revision, RolloutState.model_validate_json(r.body), r.updated) for r in rows]

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
            Conflict: another run changed the rollout since `version` was read.
        """
        with self._write() as c:
            return self._save_rollout(c, identity, version, state)

    def _save_rollout(self, c: "sql.Connection", identity: int, version: int, state: RolloutState) -> int:
        done = c.execute(
            sql.update(sql.rollouts)
            .where(sql.rollouts.c.id == identity, sql.rollouts.c.version == version)
            .values(version=version + 1, status=state.status, body=state.model_dump_json(), updated=self.clock())
        )
        if done.rowcount != 1:
            raise Conflict(f"rollout {identity} was changed by another run since version {version}")
        if state.status != "running":
            self._audit(
                c, {"event": f"rollout {state.status}", "release": state.release, "reasons": list(state.reasons)}
            )
        return version + 1
