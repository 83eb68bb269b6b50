"""A request's run in Dagster: how to request it, read its state, and stop it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.cancellation import end_runs
from llmops_assets.delivery.console_logger import CONSOLE
from llmops_assets.delivery.reconciliation import Reconciler
from llmops_assets.delivery.rollout_pages import report_returned
from llmops_assets.delivery.run_tags import MODEL_TAG, OUTCOME_TAG, REQUEST_TAG, STAGES_TAG, run_tags
from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.recovery import RunState
from llmops_assets.domain.requests import MODEL_STAGE, Request
from llmops_assets.machine.disk_space import folder_named_by, full, is_full
from llmops_assets.machine.redaction import redacted, without_secrets
from resources.artifact_store.store import StoreDenied
from resources.assembly import Clients
from resources.ledger import LedgerError
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository

NEWEST = 5
"""Requests whose outcome a tick looks at: a project has one active request at a time, and ticks are seconds apart."""
Tick = Callable[[dg.SensorEvaluationContext], dg.SensorResult | dg.RunRequest | dg.SkipReason]


def explains_skips(tick: Tick) -> Tick:
    """Turns what is unavailable or unreadable now into a skip with the reason; the next tick tries again."""

    @functools.wraps(tick)
    def _tick(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.RunRequest | dg.SkipReason:
        try:
            with without_secrets():
                result = tick(context)
            if isinstance(result, dg.SensorResult) and result.skip_reason is not None:
                return result._replace(skip_reason=dg.SkipReason(redacted(result.skip_reason.skip_message or "")))
            return dg.SkipReason(redacted(result.skip_message or "")) if isinstance(result, dg.SkipReason) else result
        except (LedgerError, StoreDenied, SourceError, ConfigError) as error:
            return dg.SkipReason(str(error))
        except OSError as error:
            if not is_full(error):
                raise
            place = folder_named_by(error, context.resources.settings.home)
            return dg.SkipReason(full("a sensor", place, "; the sensor then continues"))

    return _tick


def run_request(source: ProjectRepository, request: Request, stages: Sequence[str]) -> dg.RunRequest:
    """The run request: only the stages that are not reused, pinned to the request's revision."""
    return dg.RunRequest(
        run_key=request.name,
        asset_selection=[dg.AssetKey([source.project.name, s]) for s in stages],
        run_config=request_config(source, request),
        tags=request_tags(source, request),
    )


def request_config(source: ProjectRepository, request: Request) -> dict[str, Any]:
    """The run's config: where it logs, and the model that a person had evaluated."""
    if not request.model:
        return CONSOLE
    op = f"{source.project.name.replace('-', '_')}__{MODEL_STAGE}"
    return {**CONSOLE, "ops": {op: {"config": {"model": request.model}}}}


def request_tags(source: ProjectRepository, request: Request) -> dict[str, str]:
    return {
        **run_tags(source, request.revision, request.reason),
        REQUEST_TAG: request.name,
        **({STAGES_TAG: ", ".join(request.stages)} if request.stages else {}),
        **({MODEL_TAG: request.model} if request.model else {}),
    }


_RUN_STATES: dict[dg.DagsterRunStatus, RunState] = {
    dg.DagsterRunStatus.SUCCESS: "succeeded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "cancelled",
}


def runs_of(instance: dg.DagsterInstance, request: Request) -> list[dg.DagsterRun]:
    return list(instance.get_runs(filters=dg.RunsFilter(tags={REQUEST_TAG: request.name})))


def state_of_run(instance: dg.DagsterInstance, request: Request) -> RunState:
    """The state of a request's run, found by the run id that claimed the request, otherwise by tag."""
    chosen = instance.get_run_by_id(request.run_id) if request.run_id else None
    chosen = chosen or next((r for r in runs_of(instance, request) if r.parent_run_id is None), None)
    return _RUN_STATES.get(chosen.status, "active") if chosen else "missing"


def end_of_run(instance: dg.DagsterInstance, request: Request) -> tuple[float | None, str]:
    """When a request's run ended, in epoch seconds, and the error that it ended with; None and empty if unknown."""
    ended: list[dg.RunRecord] = []
    if request.run_id:
        ended = list(instance.get_run_records(dg.RunsFilter(run_ids=[request.run_id])))
    if not ended:
        ended = list(instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: request.name}), limit=1))
    if not ended:
        return None, ""
    for entry in instance.all_logs(ended[0].dagster_run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        data = event.step_failure_data if event else None
        if event and data:
            told = data.user_failure_data.description if data.user_failure_data else None
            said = told or (data.error.message if data.error else "it failed")
            return ended[0].end_time, redacted(f"{event.step_key}: {excerpt(said.strip(), 300)}")
    return ended[0].end_time, ""


def refused_in(instance: dg.DagsterInstance, request: Request) -> list[str]:
    """The failed asset checks of a request's runs, with their reasons."""
    said = []
    for run in runs_of(instance, request):
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
            data = entry.dagster_event.event_specific_data if entry.dagster_event else None
            if not isinstance(data, dg.AssetCheckEvaluation) or data.passed:
                continue
            if data.severity == dg.AssetCheckSeverity.ERROR:
                said.append(f"{data.asset_key.path[-1]}: {data.description}")
    return list(dict.fromkeys(said))


def tag_outcome(instance: dg.DagsterInstance, request: Request) -> None:
    """Tags a closed request's runs with its outcome in the ledger. A re-executed run keeps its own outcome."""
    for run in runs_of(instance, request):
        if not request.active and run.parent_run_id is None and run.tags.get(OUTCOME_TAG) != request.status:
            instance.add_run_tags(run.run_id, {OUTCOME_TAG: request.status})


class OutcomeTags:
    """Keeps the runs of a project's newest requests tagged with their outcome, also if another process closed it."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def update(self, instance: dg.DagsterInstance, requests: Sequence[Request]) -> None:
        recent = [r for r in requests if r.status != "skipped"][-NEWEST:]
        for request in recent:
            if not request.active and self._known.get(request.name) != request.status:
                tag_outcome(instance, request)
        self._known = {r.name: r.status for r in recent}


def end_work(instance: dg.DagsterInstance, clients: Clients, project: ProjectSource, request: Request) -> str:
    """Stops a closed request's run and programs, and gives its traffic back; returns what was done, as text."""
    ledger, source = clients.ledger, clients.sources(project)
    try:
        keys = list(ledger.resolve(source.at(request.revision).values).keys.values())
    except (ConfigError, SourceError):
        keys = []  # an unreadable revision has no programs
    ended = end_runs(instance, runs_of(instance, request), clients.compute, keys)
    found = Reconciler.of(clients, project.name).run()
    for now in (r for r in ledger.requests(project.name) if r.name == request.name):
        tag_outcome(instance, now)
    report_returned(instance, ledger, source)
    return "; ".join([*(f"stopped {name}" for name in ended), *found.done, *found.faults])
