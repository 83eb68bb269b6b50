"""The run of a request, as Dagster knows it: how it is asked for, how it is, and how it is ended."""

import functools
from collections.abc import Callable, Sequence

import dagster as dg

from llmops_assets.config.settings import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.cancellation import end_runs
from llmops_assets.delivery.console_logger import CONSOLE
from llmops_assets.delivery.rollout import abandon
from llmops_assets.delivery.run_tags import REQUEST_TAG, run_tags
from llmops_assets.domain.keys import short
from llmops_assets.domain.requests import Request, RunState
from llmops_assets.machine.disk_space import full, is_full, place_of
from resources.assembly import Clients
from resources.ledger import LedgerError
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository

Tick = Callable[[dg.SensorEvaluationContext], dg.SensorResult | dg.RunRequest | dg.SkipReason]


def skips_in_words(tick: Tick) -> Tick:
    """A tick that cannot reach the ledger, or has no room to work in, is skipped: it says why, and the next goes on."""

    @functools.wraps(tick)
    def _tick(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.RunRequest | dg.SkipReason:
        try:
            return tick(context)
        except LedgerError as error:
            return dg.SkipReason(str(error))
        except OSError as error:
            if not is_full(error):
                raise
            place = place_of(error, context.resources.settings.home)
            return dg.SkipReason(full("a sensor", place, "; it then goes on"))

    return _tick


def run_request(source: ProjectRepository, request: Request, stages: Sequence[str]) -> dg.RunRequest:
    """The run of a request: only the stages that are not reused, pinned to its revision."""
    return dg.RunRequest(
        run_key=request.name,
        asset_selection=[dg.AssetKey([source.project.name, s]) for s in stages],
        run_config=CONSOLE,
        tags=request_tags(source, request),
    )


def request_tags(source: ProjectRepository, request: Request) -> dict[str, str]:
    return {**run_tags(source, request.revision, request.reason), REQUEST_TAG: request.name}


_RUN_STATES: dict[dg.DagsterRunStatus, RunState] = {
    dg.DagsterRunStatus.SUCCESS: "succeeded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "cancelled",
}


def runs_of(instance: dg.DagsterInstance, request: Request) -> list[dg.DagsterRun]:
    return list(instance.get_runs(filters=dg.RunsFilter(tags={REQUEST_TAG: request.name})))


def state_of_run(instance: dg.DagsterInstance, request: Request) -> RunState:
    """The state of a request's run: found by the run that claimed it, else by the tag."""
    runs = [r for r in runs_of(instance, request) if r.parent_run_id is None]
    chosen = next((r for r in runs if r.run_id == request.run_id), runs[0] if runs else None)
    return _RUN_STATES.get(chosen.status, "active") if chosen else "missing"


def refused_in(instance: dg.DagsterInstance, request: Request) -> list[str]:
    """The asset checks that say no in a request's runs, with their reasons."""
    said = []
    for run in runs_of(instance, request):
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
            data = entry.dagster_event.event_specific_data if entry.dagster_event else None
            if not isinstance(data, dg.AssetCheckEvaluation) or data.passed:
                continue
            if data.severity == dg.AssetCheckSeverity.ERROR:
                said.append(f"{data.asset_key.path[-1]}: {data.description}")
    return list(dict.fromkeys(said))


def end_work(instance: dg.DagsterInstance, clients: Clients, project: ProjectSource, request: Request, why: str) -> str:
    """Ends the run of a request that was closed, its programs and its share of production's traffic; what, in words."""
    ledger, source = clients.ledger, clients.sources(project)
    try:
        keys = list(ledger.resolve(source.at(request.revision).values).keys.values())
    except (ConfigError, SourceError):
        keys = []  # it cannot be read any more, so it had no program either
    ended = end_runs(instance, runs_of(instance, request), clients.compute, keys)
    left = abandon(ledger, clients.serving, project.name, why, clients.settings.serving.drain)
    return ", ".join([*ended, *([f"the rollout of {short(left)}"] if left else [])])
