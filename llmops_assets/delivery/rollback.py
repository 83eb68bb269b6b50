"""Rolls production back to an earlier release: takes seconds, one Dagster run, and the ledger's lock.

Uses the same rollout as a deployment (`llmops_assets.delivery.rollout`), without the commit's own gates and approvals:
the release passed them before. The settings' policy floor is judged again, for it may have been raised since. The
replaced release is held.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.dora import dora_metadata
from llmops_assets.delivery.materializations import production_metadata, record_metadata, record_tags
from llmops_assets.delivery.reconciliation import Reconciler, start_engine
from llmops_assets.delivery.rollback_floor import floor_of, target_below_floor
from llmops_assets.delivery.rollout import CANARY_TOKENS, Rollout, canary_tokens, questions
from llmops_assets.delivery.rollout_pages import rollout_metadata
from llmops_assets.delivery.run_tags import PROJECT_TAG, REQUEST_TAG, REVISION_TAG, WHY_TAG, run_tags
from llmops_assets.domain.chain import STAGES
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.records import DatasetVersion, MadeBy, ProductionEndpoint
from llmops_assets.domain.requests import ROLLBACK, Request, another_generation
from llmops_assets.domain.rollback import Hold, NoTarget
from llmops_assets.domain.rollout import begin_rollback, rollback_policy
from resources.artifact_store.store import StoreError
from resources.assembly import Clients
from resources.compute.interface import hardware_class
from resources.ledger import Conflict, Ledger, LedgerError
from resources.project_source.errors import SourceError
from resources.project_source.resolved_revision import ProjectRevision
from resources.serving.interface import ServingError


class CannotRollBack(Exception):
    """The rollback failed; the message says why, and whether production has changed."""


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

        Once the ledger has recorded it, it is done: the registry's alias and Dagster's pages follow if they can, and
        the recovery sensor repeats what they missed.

        Args:
            named: digest of the release, or its first 6 characters or more; empty: the previous release.

        Raises:
            CannotRollBack: there is no earlier release, a run is active, or the earlier release does not answer; or
                it is recorded, but the gateway does not follow yet.
        """
        ledger, name = self.clients.ledger, self.project.name
        try:
            target, revision = ledger.rollback_target(name, named)
            warn = self.context.log.warning
            if below := target_below_floor(self.clients, self.project, target, revision, self.by, warn):
                raise CannotRollBack(
                    f"release {short(target)} is below the policy floor of the settings: {'; '.join(below)}. Remedy: "
                    f"`llmops rollback {name} --to RELEASE` names another (`llmops releases {name}` lists them)"
                )
            request = open_rollback(ledger, name, target, self.reason, self.by)
        except NoTarget as error:
            raise CannotRollBack(str(error)) from error
        except StoreError as error:
            raise CannotRollBack(
                f"the reports on the release cannot be read, production is unchanged: {error}"
            ) from error
        except Conflict as error:
            raise CannotRollBack(
                f"a run of {name} is active and may be moving traffic. Remedy: `llmops cancel {name}` "
                "reverts its traffic changes; then roll back"
            ) from error
        ledger.claim(request, self.context.run_id)
        self._tag(request, revision)
        try:
            record = self._move(request, target, revision)
        except (CannotRollBack, ServingError, StoreError, Conflict) as error:
            if ledger.close(request, "failed", f"the rollback failed, production is unchanged: {error}"):
                raise CannotRollBack(str(error)) from error
            now = ledger.now(request)
            if now.status != "done":
                raise CannotRollBack(f"the rollback was {now.status}: {now.detail}") from error
            raise CannotRollBack(
                f"{now.detail}; this is recorded, but traffic has not moved yet: {error}. The recovery sensor repeats "
                "it at each tick; `llmops up` repeats it now"
            ) from error
        self._follow(record)
        return next(r.detail for r in ledger.requests(name) if r.name == request.name)

    def _move(self, request: Request, target: str, revision: str) -> ProductionEndpoint:
        began = time.monotonic()
        ledger, serving, name = self.clients.ledger, self.clients.serving, self.project.name
        release, present = ledger.release(target), ledger.serving(name, "production")
        if release is None or present is None:
            raise CannotRollBack(f"the ledger no longer contains release {short(target)}")
        at = self._at(revision)
        config = at.config if at else None
        floored = at.policy if at else floor_of(self.clients.settings, name)
        rollout = Rollout(
            project=name,
            revision=revision,
            release=release,
            policy=rollback_policy(floored.rollout),
            ledger=ledger,
            serving=serving,
            drain=self.clients.settings.serving.drain,
            deploy=lambda: start_engine(self.clients, "production", release, self.context.log.info),
            inputs=lambda: self._questions(revision, at),
            answer_tokens=canary_tokens(config) if config else CANARY_TOKENS,
            say=self.context.log.info,
            request=request,
            hold=Hold(project=name, release=present.release, reason=self.reason, by=self.by, since=ledger.clock()),
        )
        # The release that fails may have no engine any more; then there is no traffic to leave with it.
        up = present.release in serving.deployed(name, "production")
        state = rollout.run(begin_rollback(target, present.release if up else None))
        if state.status != "promoted":
            raise CannotRollBack(f"release {short(target)} failed its probes: {'; '.join(state.reasons)}")
        self.context.log.info(f"production serves {short(target)} after {time.monotonic() - began:.1f} s")
        return ProductionEndpoint(
            key=digest(["rollback", name, self.context.run_id]),
            made_by=self._made_by(revision, time.monotonic() - began),
            release=target,
            base_url=serving.base_url(name, "production"),
            replaces=present.release,
            outcome="rolled_back",
            requests=state.requests,
        )

    def _at(self, revision: str) -> ProjectRevision | None:
        """The release's revision, for its policy and smoke tests; None if the mirror cannot be read."""
        try:
            return self.clients.sources(self.project).at(revision, served=True)
        except (SourceError, ConfigError) as error:
            self.context.log.warning(
                f"{short(revision)} cannot be read ({error}): the probes use the default conditions and no smoke tests"
            )
            return None

    def _questions(self, revision: str, at: ProjectRevision | None) -> list[str]:
        """Inputs for the probes: smoke tests, and held-out rows if they still exist."""
        data = self.clients.ledger.records_of(self.project.name, revision).get("dataset_version")
        try:
            folder = self.clients.store.fetch(data.uri) if isinstance(data, DatasetVersion) else None
        except StoreError as error:
            self.context.log.warning(f"no held-out rows are asked: {error}")
            folder = None
        return questions(at, folder) or ["Hello"]

    def _tag(self, request: Request, revision: str) -> None:
        try:
            tags = run_tags(self.clients.sources(self.project), revision, request.reason)
        except SourceError:
            tags = {PROJECT_TAG: self.project.name, REVISION_TAG: revision, WHY_TAG: request.reason}
        self.context.instance.add_run_tags(self.context.run_id, {**tags, REQUEST_TAG: request.name})

    def _follow(self, record: ProductionEndpoint) -> None:
        """Tells the other systems; what fails is reported, for production has moved already."""
        try:
            self._record(record)
        except (LedgerError, SourceError) as error:
            self.context.log.warning(f"Dagster's page of production_endpoint does not show the rollback: {error}")
        if fault := Reconciler.of(self.clients, self.project.name).align_mlflow():
            self.context.log.warning(f"{fault}. The recovery sensor tries again")

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
                    **dora_metadata(source, ledger),
                    **record_metadata(source, revision, record, reused=False),
                },
                # No inputs: a person decided it, so Dagster must never call it out of date.
                tags=record_tags(name, record, {}, reused=False),
            )
        )
