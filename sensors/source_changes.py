"""The Git and DVC sensors of a project, thin shells over `llmops_assets.domain.requests`."""

from collections.abc import Callable
from typing import Any, Literal

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.asset_events import MaterializationHistory, seen_events
from llmops_assets.delivery.planning import plan_revision
from llmops_assets.delivery.request_runs import end_work, explains_skips, run_request
from llmops_assets.domain.config_diff import Change, changes
from llmops_assets.domain.keys import short
from llmops_assets.domain.requests import (
    Head,
    NextRequest,
    Note,
    Request,
    Skip,
    Start,
    Supersede,
    next_request,
    seen_to,
    settled,
)
from llmops_assets.domain.webhooks import LOOK, WAITS, WATCHES_TAG
from resources.assembly import RESOURCE_KEYS, Clients
from resources.ledger import Conflict
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository
from sensors.branches import build_branch_sensor
from sensors.code_host import build_code_host_sensor
from sensors.looking import begin_all
from sensors.notifications import build_notification_sensor
from sensors.proposals import build_proposal_sensor
from sensors.request_recovery import build_recovery_sensor
from sensors.triggers import build_trigger_sensor

Owner = Literal["git", "dvc"]


def read_head(
    source: ProjectRepository,
    requests: list[Request],
    reader: Owner = "git",
    patience_s: float | None = None,
    on_new_look: Callable[[], None] = lambda: None,
    fresh: bool = False,
) -> Head:
    """Reads the branch's current state. Every problem becomes a reason, never an exception or an empty branch.

    Args:
        reader: the sensor that asks.
        patience_s: how long to wait for the remote, None: as long as a tick may.
        on_new_look: called if no other sensor had this remote looked at.
        fresh: whether to ask the remote now, even if another sensor has just looked.
    """
    try:
        source.looks.current(reader, patience_s, on_new_look, fresh)
        revision = source.git.head()
    except SourceError as error:
        return Head(revision=None, problem=str(error))
    if revision is None:
        return Head(revision=None, problem=source.no_head)
    if seen_to(requests, revision):
        return Head(revision=revision)
    before = settled(requests)
    base = before.revision if before else None
    try:
        at = source.at(revision)
        if missing := source.missing_data(at, in_tick=True):
            return Head(
                revision=revision,
                problem=f"waits for data: {', '.join(missing)} is not in the DVC remote yet; run `dvc push`",
            )
    except (ConfigError, SourceError) as error:
        return Head(revision=revision, problem=str(error))
    found: tuple[Change, ...] | None = None
    files: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    if base is not None:
        seen = {r.revision for r in requests}
        passed_over = tuple(c for c in source.git.between(base, revision) if c not in seen)
        files = tuple(source.git.changed_files(base, revision))
        try:
            found = changes(source.at(base).values, at.values)
        except (ConfigError, SourceError):
            found = changes({}, at.values)  # the base is from another repository: everything is new
    cancels = at.config.on_newer == "cancel"
    return Head(revision=revision, found=found, files=files, passed_over=passed_over, cancels=cancels)


def build_source_sensor(project: ProjectSource, job: Any, settings: Settings, owner: Owner) -> dg.SensorDefinition:
    """Watches the branch for the changes that this sensor handles."""
    what = "data only" if owner == "dvc" else "anything that a stage reads, unless only data changed"

    @dg.sensor(
        name=f"{project.group}_{owner}",
        job=job,
        minimum_interval_seconds=settings.look_every,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Polls branch {project.branch} of {project.name} and starts a run when a commit changes {what}. "
        "A tick without a run says why.",
        required_resource_keys=set(RESOURCE_KEYS),
        tags={WATCHES_TAG: project.name},
    )
    @explains_skips
    def _sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        announced = context.cursor == LOOK
        context.update_cursor(WAITS)  # until the newest commit is dealt with, also if this tick fails
        clients = Clients.of(context.resources)
        ledger, source = clients.ledger, clients.sources(project)
        decision = _decide(clients, announced)
        if isinstance(decision, Supersede):
            if not ledger.close(decision.request, "superseded", decision.detail):
                return dg.SkipReason(f"{short(decision.request.revision)} has ended meanwhile; the next tick decides")
            ended = end_work(context.instance, clients, project, decision.request)
            context.log.info(
                f"stopped {short(decision.request.revision)}: {decision.detail}; {ended or 'nothing to stop'}"
            )
            decision = _decide(clients)
        if isinstance(decision, Skip) and not decision.waits:
            context.update_cursor("")
        if isinstance(decision, Skip | Supersede):
            return dg.SkipReason(decision.reason if isinstance(decision, Skip) else decision.detail)
        return _act(context, source, clients, decision)

    def _decide(clients: Clients, announced: bool = False) -> NextRequest:
        ledger, source = clients.ledger, clients.sources(project)
        requests = ledger.requests(project.name)
        head = read_head(source, requests, owner, on_new_look=lambda: begin_all(clients), fresh=announced)
        return next_request(requests, head, owner, ledger.holds(project.name))

    def _act(
        context: dg.SensorEvaluationContext, source: ProjectRepository, clients: Clients, decision: Start | Note
    ) -> dg.SensorResult | dg.SkipReason:
        ledger, sha = clients.ledger, short(decision.revision)
        try:
            base = decision.base if isinstance(decision, Start) else None
            plan = plan_revision(source, ledger, clients.store, decision.revision, base)
            if isinstance(decision, Note):
                ledger.open_request(
                    project.name, decision.revision, decision.generation, decision.reason, status="skipped"
                )
                context.update_cursor("")
                return dg.SensorResult(
                    skip_reason=dg.SkipReason(f"{sha}: {decision.reason}"),
                    asset_events=seen_events(
                        source, ledger, plan, MaterializationHistory(context.instance, project.name)
                    ),
                )
            request = ledger.open_request(
                project.name, decision.revision, decision.generation, decision.reason, base=decision.base
            )
        except Conflict as error:
            return dg.SkipReason(f"{sha}: another sensor or `llmops run` was faster: {error}")
        context.update_cursor("")
        events = seen_events(source, ledger, plan, MaterializationHistory(context.instance, project.name))
        if plan.nothing_to_do:
            why = plan["production_endpoint"].reasons[0]
            ledger.close(request, "done", why)
            return dg.SensorResult(
                skip_reason=dg.SkipReason(f"{sha}: {decision.reason}: nothing to do, {why}"), asset_events=events
            )
        return dg.SensorResult(run_requests=[run_request(source, request, plan.to_materialize)], asset_events=events)

    return _sensor


def build_sensors(project: ProjectSource, job: Any, settings: Settings) -> list[dg.SensorDefinition]:
    return [
        build_source_sensor(project, job, settings, "git"),
        build_source_sensor(project, job, settings, "dvc"),
        build_recovery_sensor(project, job, settings),
        *([build_branch_sensor(project, job, settings)] if project.watches_more else []),
        *([build_trigger_sensor(project, job, settings)] if project.has_triggers else []),
        *([build_notification_sensor(project, settings)] if settings.targets(project) else []),
        *([build_code_host_sensor(project, settings)] if project.code_host else []),
        *([build_proposal_sensor(project, settings)] if project.proposals else []),
    ]


__all__ = ["build_sensors", "read_head"]
