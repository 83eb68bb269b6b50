"""The sensor of schedules, old data and drift, a thin shell over `llmops_assets.domain.triggers`."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import dagster as dg
from dagster._utils.schedules import reverse_cron_string_iterator

from llmops_assets.config.settings import Settings
from llmops_assets.config.triggers import Schedule
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.planning import plan_revision
from llmops_assets.delivery.request_runs import explains_skips, run_request
from llmops_assets.domain.chain import STAGES
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.requests import DATA_AGE, SCHEDULE, Request, newest_planned
from llmops_assets.domain.triggers import Due, Scheduled, at_schedule, next_scheduled, old_data
from resources.assembly import RESOURCE_KEYS, Clients
from resources.ledger import Conflict, Ledger
from resources.project_source.revisions import ProjectRepository
from sensors.drift import NOTHING, DriftWatch, tell

EVERY_S = 15


def build_trigger_sensor(
    project: ProjectSource, job: Any, settings: Settings, clock: Callable[[], float] = time.time
) -> dg.SensorDefinition:
    """Starts what a schedule or a drift asks for, and says when the data is old or users ask for something else."""
    watch = DriftWatch(project, clock) if project.drift else None

    @dg.sensor(
        name=f"{project.group}_triggers",
        job=job,
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Makes stages of {project.name} again at the times that the settings name, and says when its data "
        "is old, or when the requests of its users have drifted.",
        required_resource_keys=set(RESOURCE_KEYS),
    )
    @explains_skips
    def _sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        clients = Clients.of(context.resources)
        ledger = clients.ledger
        requests = ledger.requests(project.name)
        told = _tell_of_old_data(clients, requests)
        due = [_due(ledger, schedule) for schedule in project.schedules]
        drift = watch.look(clients, requests) if watch else NOTHING
        decision = next_scheduled(requests, [*due, *drift.due])
        runs = []
        if isinstance(decision, Scheduled):
            started = _start(clients, decision)
            if isinstance(started, dg.RunRequest):
                runs.append(started)
            else:
                told.append(started)
        elif project.schedules or drift.due:
            told.append(decision.reason)
        said = [*told, *drift.said]
        return dg.SensorResult(
            run_requests=runs,
            skip_reason=None if runs else "; ".join(said) or "the data is young enough",
            asset_events=drift.events,
        )

    def _tell_of_old_data(clients: Clients, requests: list[Request]) -> list[str]:
        """Notes in the ledger, once a version, that the data is old; the notification follows from that row."""
        ledger, newest = clients.ledger, newest_planned(requests)
        if project.data_max_age is None or newest is None:
            return []
        values = clients.sources(project).at(newest.revision).values
        record = ledger.resolve(values).records.get("dataset_version")
        if record is None:
            return []
        made = datetime.fromisoformat(record.made_by.at).timestamp()
        reason = old_data(requests, record.key, made, project.data_max_age, clock())
        return [tell(ledger, requests, newest, DATA_AGE, reason)] if reason else []

    def _due(ledger: Ledger, schedule: Schedule) -> Due:
        """The schedule's newest time; the first time that it is seen is noted, for what was before is not its own."""
        name = f"schedule:{digest(schedule.model_dump())[:24]}"
        noted = ledger.projected(project.name, name)
        if noted is None:
            noted = str(clock())
            ledger.note_projected(project.name, name, noted)
        at = next(reverse_cron_string_iterator(clock(), schedule.cron, schedule.timezone)).timestamp()
        shown = f"'{schedule.cron}' ({schedule.timezone})"
        return at_schedule(shown, at, schedule.rebuild, float(noted))

    def _start(clients: Clients, decision: Scheduled) -> dg.RunRequest | str:
        ledger, source, start = clients.ledger, clients.sources(project), decision.start
        for stage in decision.rebuild:
            if why := _make_again(ledger, source, start.revision, stage, start.reason):
                return why
        plan = plan_revision(source, ledger, clients.store, start.revision, start.base)
        try:
            request = ledger.open_request(
                project.name, start.revision, start.generation, start.reason, asked_by=SCHEDULE, base=start.base
            )
        except Conflict as error:
            return f"{short(start.revision)}: another sensor or `llmops run` was faster: {error}"
        if plan.nothing_to_do:
            ledger.close(request, "done", "nothing to do")
            return f"{short(start.revision)}: {start.reason}: nothing to do"
        return run_request(source, request, plan.to_materialize)

    return _sensor


def _make_again(ledger: Ledger, source: ProjectRepository, revision: str, stage: str, reason: str) -> str | None:
    """Has the stage's existing result no longer used; the same reason does so once. Returns why it cannot be."""
    values = source.at(revision).values
    resolved = ledger.resolve(values)
    if stage not in resolved.keys:
        return f"{short(revision)}: {stage} cannot be made again, for its inputs do not exist"
    ledger.rebuild(STAGES[stage].key(values, resolved.outputs), reason, once=True)
    return None
