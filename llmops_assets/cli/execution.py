"""Runs started by a person: on the same ledger and the same Dagster instance, with or without a daemon beside.

`launch` takes the ledger's lock first, so a daemon's sensors and this never start the same change twice.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import dagster as dg
import psutil

from llmops_assets.config.settings import ProjectSource, Settings
from llmops_assets.definitions import build_definitions, job_name
from llmops_assets.delivery.asset_events import MaterializationHistory, seen_events
from llmops_assets.delivery.console_logger import CONSOLE
from llmops_assets.delivery.planning import plan_revision
from llmops_assets.delivery.request_runs import end_work, refused_in, request_tags
from llmops_assets.delivery.run_tags import PROJECT_TAG
from llmops_assets.domain.approval import Decision
from llmops_assets.domain.keys import short
from llmops_assets.domain.plan import Plan
from llmops_assets.domain.requests import PARTIAL, Request, another_generation, ended_well
from llmops_assets.jobs.rollback import rollback_job_name
from resources.assembly import Clients
from resources.ledger import Ledger
from resources.local_services.services import dagster_home
from resources.project_source.revisions import ProjectRepository
from resources.run_launching.run_workers import worker_tags


def open_by_person(
    source: ProjectRepository, ledger: Ledger, revision: str, plan: Plan, reason: str, partial: bool = False
) -> Request:
    """The ledger's row of this run; `partial` if it is not to bring the commit to its end.

    Raises:
        resources.ledger.Conflict: another request of the project is at work.
    """
    generation = another_generation(ledger.requests(source.project.name), revision)
    by = PARTIAL if partial else "person"
    return ledger.open_request(source.project.name, revision, generation, reason, asked_by=by, base=plan.base)


def execute(
    clients: Clients,
    source: ProjectRepository,
    request: Request,
    only: Sequence[str] | None,
    say: Callable[[str], None],
) -> bool:
    """Runs a request here and now; True if it ended well. Its outcome stands in the ledger."""
    project = source.project
    settings, ledger = clients.settings, clients.ledger
    home = dagster_home(settings)
    plan = plan_revision(source, ledger, clients.store, request.revision, request.base)
    stages = only or plan.to_materialize
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for event in seen_events(source, ledger, plan, MaterializationHistory(instance, project.name)):
            instance.report_runless_asset_event(event)
        if not stages:
            # Another run did it since this was planned. Dagster takes an empty selection for all assets.
            ledger.close(request, "done", "nothing was left to do")
            say(f"{short(request.revision)}: nothing was left to do")
            return True
        job = dg.build_reconstructable_job(
            "llmops_assets.cli.execution",
            "reconstruct_job",
            reconstructable_kwargs={"settings_json": settings.model_dump_json(), "project": project.name},
        )
        result = dg.execute_job(
            job,
            instance=instance,
            tags={**request_tags(source, request), **worker_tags(psutil.Process(os.getpid()))},
            asset_selection=[dg.AssetKey([project.name, s]) for s in stages],
            run_config=CONSOLE,
        )
        now = next(r for r in ledger.requests(project.name) if r.name == request.name)
        if now.active and result.success:
            end = ended_well(refused_in(instance, request))
            ledger.close(now, end.status, end.detail)
        elif now.active and request.asked_by == PARTIAL:
            # Nothing carries on what was asked for stage by stage; left open, it would keep others waiting.
            ledger.close(now, "failed", _failure(result) or "a stage that was asked for failed; its log says why")
        say(f"run {result.run_id} {'succeeded' if result.success else 'failed'}")
        return result.success


def reconstruct_job(settings_json: str, project: str, job: str | None = None) -> dg.JobDefinition:
    """The project's job, or another one of the location, rebuilt in whatever process executes it."""
    settings = Settings.model_validate_json(settings_json)
    return build_definitions(settings).resolve_job_def(job or job_name(settings.project(project)))


def start_detached(settings: Settings, request: Request, only: Sequence[str] | None) -> int:
    """Executes a request in a process of its own that outlives this one; its pid."""
    log = settings.home / "services" / f"run-{short(request.revision)}-{request.generation}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "llmops_assets.cli", "execute", request.name]
    for stage in only or ():
        command += ["--only", stage]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            env={**os.environ, "LLMOPS_HOME": str(settings.home)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    return process.pid


def cancel(clients: Clients, project: ProjectSource, request: Request) -> str:
    """Ends a request's run, its programs and its share of production's traffic; what was done, in words."""
    why = "cancelled by a person"
    clients.ledger.close(request, "cancelled", f"{why}; `llmops retry` starts it again")
    with dg.DagsterInstance.from_config(str(dagster_home(clients.settings))) as instance:
        ended = end_work(instance, clients, project, request, why)
    return f"{short(request.revision)} is cancelled" + (f"; ended {ended}" if ended else "")


def go_on(ledger: Ledger, request: Request, decision: Decision) -> Request:
    """The next generation of a request that a person approved, for a process that executes it itself.

    Raises:
        resources.ledger.Conflict: a sensor was first, or another run of the project is at work.
    """
    generation = another_generation(ledger.requests(request.project), request.revision)
    return ledger.next_generation(request, generation, f"approved by {decision.by}: {decision.reason}")


def roll_back(settings: Settings, project: ProjectSource, to: str, reason: str, by: str) -> tuple[bool, str]:
    """Rolls production back here and now: (whether it did, what it said)."""
    name = rollback_job_name(project)
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        job = dg.build_reconstructable_job(
            "llmops_assets.cli.execution",
            "reconstruct_job",
            reconstructable_kwargs={"settings_json": settings.model_dump_json(), "project": project.name, "job": name},
        )
        result = dg.execute_job(
            job,
            instance=instance,
            tags={PROJECT_TAG: project.name, **worker_tags(psutil.Process(os.getpid()))},
            run_config={
                **CONSOLE,
                "ops": {f"{project.group}_roll_back": {"config": {"to": to, "reason": reason, "by": by}}},
            },
        )
        return result.success, _failure(result)


def _failure(result: dg.JobExecutionResult) -> str:
    """What the first step that failed said; empty if none did."""
    for data in (e.step_failure_data for e in result.all_events if e.is_step_failure):
        told = data.user_failure_data.description if data.user_failure_data else None
        return told or (data.error.message if data.error else "it failed")
    return ""


__all__ = [
    "cancel", "execute", "go_on", "open_by_person", "reconstruct_job", "roll_back", "start_detached",
]  # fmt: skip
