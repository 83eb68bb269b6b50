"""Rolls production back to an earlier release: takes seconds, one Dagster run, and the ledger's lock.

Uses the same rollout as a deployment (`llmops_assets.delivery.rollout`), without gates and approvals: the release
passed them before. The replaced release is held.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from llmops_assets.assets.release_approval import BY
from llmops_assets.config.settings import ProjectSource
from llmops_assets.delivery.asset_events import reached_at
from llmops_assets.delivery.rollout import Rollout, canary_tokens, questions
from llmops_assets.delivery.run_tags import PROJECT_TAG, REQUEST_TAG, about_commit, run_tags
from llmops_assets.domain.chain import STAGES
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.records import DatasetVersion, MadeBy, ProductionEndpoint, RegisteredModel, Release
from llmops_assets.domain.requests import ROLLBACK, Request, another_generation
from llmops_assets.domain.rollback import Hold, NoTarget
from llmops_assets.domain.rollout import begin_rollback, rollback_policy
from resources.artifact_store.store import ArtifactStore, StoreError
from resources.assembly import RESOURCE_KEYS, Clients
from resources.compute.interface import hardware_class
from resources.ledger import Conflict, Ledger
from resources.model_registry.interface import CHAMPION
from resources.project_source.identity import local_identity
from resources.project_source.revisions import ProjectRevision
from resources.serving.local.serving import ServingError


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


def roll_back(
    context: dg.OpExecutionContext, clients: Clients, project: ProjectSource, named: str, reason: str, by: str
) -> str:
    """Rolls production back and returns what was done, as text.

    Raises:
        CannotRollBack: there is no earlier release, a run is active, or the earlier release does not answer.
    """
    ledger = clients.ledger
    try:
        target, revision = ledger.rollback_target(project.name, named)
        request = open_rollback(ledger, project.name, target, reason, by)
    except NoTarget as error:
        raise CannotRollBack(str(error)) from error
    except Conflict as error:
        raise CannotRollBack(
            f"a run of {project.name} is active and may be moving traffic. Remedy: `llmops cancel {project.name}` "
            "reverts its traffic changes; then roll back"
        ) from error
    ledger.claim(request, context.run_id)
    tags = run_tags(clients.sources(project), revision, request.reason)
    context.instance.add_run_tags(context.run_id, {**tags, REQUEST_TAG: request.name})
    try:
        said = _move(context, clients, project, target, revision, reason, by)
    except (CannotRollBack, ServingError, StoreError, Conflict) as error:
        ledger.close(request, "failed", f"the rollback failed, production is unchanged: {error}")
        raise CannotRollBack(str(error)) from error
    ledger.close(request, "done", said)
    return said


def _move(
    context: dg.OpExecutionContext,
    clients: Clients,
    project: ProjectSource,
    target: str,
    revision: str,
    reason: str,
    by: str,
) -> str:
    began = time.monotonic()
    ledger = clients.ledger
    serving, name = clients.serving, project.name
    release, present = ledger.release(target), ledger.serving(name, "production")
    if release is None or present is None:
        raise CannotRollBack(f"the ledger no longer contains release {short(target)}")
    at = clients.sources(project).at(revision)
    rollout = Rollout(
        project=name,
        revision=revision,
        release=release,
        policy=rollback_policy(at.config.deployment.rollout),
        ledger=ledger,
        serving=serving,
        drain=clients.settings.serving.drain,
        deploy=_deployer(context, clients, name, release),
        inputs=lambda: _inputs(ledger, clients.store, name, at),
        answer_tokens=canary_tokens(at.config),
        say=context.log.info,
    )
    state = rollout.run(begin_rollback(target, present.release))
    if state.status != "promoted":
        raise CannotRollBack(f"release {short(target)} failed its probes: {'; '.join(state.reasons)}")
    hold = Hold(project=name, release=present.release, reason=reason, by=by, since=ledger.clock())

    def note() -> None:
        ledger.roll_back(name, target, revision, hold)
        context.log.info(f"production serves {short(target)} after {time.monotonic() - began:.1f} s")

    rollout.settle(note)
    _show(context, clients, project, ProductionEndpoint(
        key=digest(["rollback", name, context.run_id]),
        made_by=MadeBy(
            project=name, revision=revision, run_id=context.run_id, version=STAGES["production_endpoint"].version,
            seconds=round(time.monotonic() - began, 3), at=datetime.now(UTC).isoformat(timespec="seconds"),
            hardware=hardware_class(),
        ),
        release=target, base_url=serving.base_url(name, "production"), replaces=present.release,
        outcome="rolled_back", requests=state.requests,
    ), reason, by)  # fmt: skip
    model = ledger.records_of(name, revision).get("registered_model")
    if isinstance(model, RegisteredModel):
        clients.registry.set_alias(model.name, CHAMPION, model.version)
    return (
        f"production rolled back from {short(present.release)} to {short(target)} of {short(revision)} "
        f"({reason}); {short(present.release)} is held"
    )


def _deployer(context: dg.OpExecutionContext, clients: Clients, project: str, release: Release) -> Callable[[], None]:
    def deploy() -> None:
        store, uri = clients.store, release.artifact_uri
        file, sha256 = store.fetch(uri) / release.file, store.sha256(uri, release.file)
        clients.serving.deploy(project, "production", release, file, context.log.info, sha256)

    return deploy


def _inputs(ledger: Ledger, store: ArtifactStore, project: str, at: ProjectRevision) -> list[str]:
    """Inputs for the probes: smoke tests, and held-out rows if they still exist."""
    data = ledger.records_of(project, at.revision).get("dataset_version")
    return questions(at, store.fetch(data.uri) if isinstance(data, DatasetVersion) else None) or ["Hello"]


def _show(
    context: dg.OpExecutionContext,
    clients: Clients,
    project: ProjectSource,
    record: ProductionEndpoint,
    reason: str,
    by: str,
) -> None:
    """Commits the record and its lineage edge, and reports them to Dagster as a materialization."""
    ledger = clients.ledger
    ledger.commit(record)
    ledger.demand(project.name, record.made_by.revision, record, reused=False)
    context.log_event(
        dg.AssetMaterialization(
            [project.name, "production_endpoint"],
            description=f"Rolled back by {by}: {reason}",
            metadata={
                "release": short(record.release),
                **reached_at(record.base_url),
                "outcome": record.outcome,
                "replaces": short(record.replaces or "nothing"),
                "made_by": "this run",
                "seconds": record.made_by.seconds,
                **about_commit(clients.sources(project), record.made_by.revision),
                "key": record.key,
            },
            tags={"dagster/data_version": record.key},
        )
    )


class RollbackConfig(dg.Config):
    """Roll production back to an earlier release."""

    reason: str = Field(description="Why; kept in the ledger's audit trail.")
    to: str = Field(default="", description="Digest of the release; empty: the previous release.")
    by: str = BY


def rollback_job_name(project: ProjectSource) -> str:
    return f"{project.group}_rollback"


def build_rollback_job(project: ProjectSource) -> dg.JobDefinition:
    @dg.op(name=f"{project.group}_roll_back", required_resource_keys=set(RESOURCE_KEYS))
    def _roll_back(context: dg.OpExecutionContext, config: RollbackConfig) -> None:
        by = config.by.strip() or local_identity()
        try:
            if not by or not config.reason.strip():
                raise CannotRollBack("a rollback needs a reason and a name: set `reason`, and `by` or LLMOPS_USER")
            said = roll_back(context, Clients.of(context.resources), project, config.to, config.reason.strip(), by)
        except CannotRollBack as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        context.log.info(said)
        context.add_output_metadata({"outcome": said})

    @dg.job(
        name=rollback_job_name(project),
        description=f"Roll {project.name}'s production back to an earlier release, and hold the current one.",
        tags={PROJECT_TAG: project.name},
    )
    def _job() -> None:
        _roll_back()

    return _job
