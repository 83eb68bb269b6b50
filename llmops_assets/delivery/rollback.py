"""Rolls production back to an earlier release: takes seconds, one Dagster run, and the ledger's lock.

Uses the same rollout as a deployment (`llmops_assets.delivery.rollout`), without gates and approvals: the release
passed them before. The replaced release is held.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from llmops_assets.config.settings import ProjectSource
from llmops_assets.delivery.materializations import production_metadata, record_metadata, record_tags
from llmops_assets.delivery.rollout import Rollout, canary_tokens, move_champion_alias, questions
from llmops_assets.delivery.rollout_pages import rollout_metadata
from llmops_assets.delivery.run_tags import REQUEST_TAG, run_tags
from llmops_assets.domain.chain import STAGES
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.records import DatasetVersion, MadeBy, ProductionEndpoint, Release
from llmops_assets.domain.requests import ROLLBACK, Request, another_generation
from llmops_assets.domain.rollback import Hold, NoTarget
from llmops_assets.domain.rollout import begin_rollback, rollback_policy
from resources.artifact_store.store import StoreError
from resources.assembly import Clients
from resources.compute.interface import hardware_class
from resources.ledger import Conflict, Ledger
from resources.project_source.revisions import ProjectRevision
from resources.serving.interface import ServingError


class CannotRollBack(Exception):
    """The rollback failed and production is unchanged; the message says why."""


def open_rollback(ledger: Ledger, project: str, release: str, reason: str, by: str) -> Request:
    """Takes the project's lock. The request has the last planned revision, so that no sensor starts that again.

    Raises:
        Conflict: a run of the project is active.
    """
    requests = ledger.requests(project)
    serving = ledger.serving(project, "production")
    revision = requests[-1].revision if requests else serving.revision if serving else ""
    generation = another_generation(requests, revision)
    why = f"rollback to {short(release)} by {by}: {reason}"
    return ledger.open_request(project, revision, generation, why, asked_by=ROLLBACK)


@dataclass(frozen=True)
class Rollback:
    """One rollback, in the Dagster run that performs it."""

    context: dg.OpExecutionContext
    clients: Clients
    project: ProjectSource
    reason: str
    by: str

    def run(self, named: str) -> str:
        """Rolls production back and returns what was done, as text.

        Args:
            named: digest of the release, or its first 6 characters or more; empty: the previous release.

        Raises:
            CannotRollBack: there is no earlier release, a run is active, or the earlier release does not answer.
        """
        ledger, name = self.clients.ledger, self.project.name
        try:
            target, revision = ledger.rollback_target(name, named)
            request = open_rollback(ledger, name, target, self.reason, self.by)
        except NoTarget as error:
            raise CannotRollBack(str(error)) from error
        except Conflict as error:
            raise CannotRollBack(
                f"a run of {name} is active and may be moving traffic. Remedy: `llmops cancel {name}` "
                "reverts its traffic changes; then roll back"
            ) from error
        ledger.claim(request, self.context.run_id)
        tags = run_tags(self.clients.sources(self.project), revision, request.reason)
        self.context.instance.add_run_tags(self.context.run_id, {**tags, REQUEST_TAG: request.name})
        try:
            said = self._move(target, revision)
        except (CannotRollBack, ServingError, StoreError, Conflict) as error:
            ledger.close(request, "failed", f"the rollback failed, production is unchanged: {error}")
            raise CannotRollBack(str(error)) from error
        ledger.close(request, "done", said)
        return said

    def _move(self, target: str, revision: str) -> str:
        began = time.monotonic()
        ledger, serving, name = self.clients.ledger, self.clients.serving, self.project.name
        release, present = ledger.release(target), ledger.serving(name, "production")
        if release is None or present is None:
            raise CannotRollBack(f"the ledger no longer contains release {short(target)}")
        at = self.clients.sources(self.project).at(revision)
        rollout = Rollout(
            project=name,
            revision=revision,
            release=release,
            policy=rollback_policy(at.config.deployment.rollout),
            ledger=ledger,
            serving=serving,
            drain=self.clients.settings.serving.drain,
            deploy=lambda: self._deploy(release),
            inputs=lambda: self._questions(at),
            answer_tokens=canary_tokens(at.config),
            say=self.context.log.info,
        )
        state = rollout.run(begin_rollback(target, present.release))
        if state.status != "promoted":
            raise CannotRollBack(f"release {short(target)} failed its probes: {'; '.join(state.reasons)}")
        hold = Hold(project=name, release=present.release, reason=self.reason, by=self.by, since=ledger.clock())

        def note() -> None:
            ledger.roll_back(name, target, revision, hold)
            self.context.log.info(f"production serves {short(target)} after {time.monotonic() - began:.1f} s")

        rollout.settle(note)
        self._record(
            ProductionEndpoint(
                key=digest(["rollback", name, self.context.run_id]),
                made_by=self._made_by(revision, time.monotonic() - began),
                release=target,
                base_url=serving.base_url(name, "production"),
                replaces=present.release,
                outcome="rolled_back",
                requests=state.requests,
            )
        )
        move_champion_alias(self.clients.registry, ledger.records_of(name, revision))
        return (
            f"production rolled back from {short(present.release)} to {short(target)} of {short(revision)} "
            f"({self.reason}); {short(present.release)} is held"
        )

    def _deploy(self, release: Release) -> None:
        store, uri = self.clients.store, release.artifact_uri
        file, sha256 = store.fetch(uri) / release.file, store.sha256(uri, release.file)
        self.clients.serving.deploy(self.project.name, "production", release, file, self.context.log.info, sha256)

    def _questions(self, at: ProjectRevision) -> list[str]:
        """Inputs for the probes: smoke tests, and held-out rows if they still exist."""
        data = self.clients.ledger.records_of(self.project.name, at.revision).get("dataset_version")
        folder = self.clients.store.fetch(data.uri) if isinstance(data, DatasetVersion) else None
        return questions(at, folder) or ["Hello"]

    def _made_by(self, revision: str, seconds: float) -> MadeBy:
        return MadeBy(
            project=self.project.name,
            revision=revision,
            run_id=self.context.run_id,
            version=STAGES["production_endpoint"].version,
            seconds=round(seconds, 3),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            hardware=hardware_class(),
        )

    def _record(self, record: ProductionEndpoint) -> None:
        """Commits the record and its lineage edge, and reports them to Dagster as a materialization."""
        ledger, name, revision = self.clients.ledger, self.project.name, record.made_by.revision
        ledger.commit(record)
        ledger.record_use(name, revision, record, reused=False)
        source = self.clients.sources(self.project)
        self.context.log_event(
            dg.AssetMaterialization(
                [name, record.stage],
                description=f"Rolled back by {self.by}: {self.reason}",
                metadata={
                    **production_metadata(record),
                    **rollout_metadata(ledger, name),
                    **record_metadata(source, revision, record, reused=False),
                },
                # No inputs: a person decided it, so Dagster must never call it out of date.
                tags=record_tags(name, record, {}, reused=False),
            )
        )
