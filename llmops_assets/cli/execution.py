"""Runs started by a person: they use the same ledger and Dagster instance as the daemon, which is optional.

`open_by_person` takes the ledger's lock first, so this and the daemon's sensors never start the same change twice.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import dagster as dg
import psutil

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.asset_events import MaterializationHistory, seen_events
from llmops_assets.delivery.code_host import Answered, CodeHostAnswers
from llmops_assets.delivery.console_logger import CONSOLE
from llmops_assets.delivery.notifications import Delivered, Notifications
from llmops_assets.delivery.planning import plan_revision
from llmops_assets.delivery.request_runs import end_work, refused_in, request_config, request_tags, tag_outcome
from llmops_assets.delivery.run_tags import PROJECT_TAG
from llmops_assets.domain.keys import short
from llmops_assets.domain.plan import Plan
from llmops_assets.domain.recovery import ended_well
from llmops_assets.domain.requests import EVALUATION, INCOMPLETE, PARTIAL, Request, another_generation
from llmops_assets.jobs.rollback import rollback_job_name
from llmops_assets.location import build_definitions, job_name
from llmops_assets.machine.background import Background, StillRunning
from resources.assembly import Clients, build_clients
from resources.ledger import Ledger, LedgerError
from resources.local_services.services import dagster_home
from resources.project_source.revisions import ProjectRepository
from resources.run_launching.run_workers import worker_tags

TELL_PATIENCE_S = 5.0
"""How long a command that has ended its run waits for notifications to be sent."""


def open_by_person(
    source: ProjectRepository, ledger: Ledger, revision: str, plan: Plan, reason: str, stages: Sequence[str] = (),
    model: str = "",
) -> Request:  # fmt: skip
    """Opens the request for this run in the ledger; with `stages` it runs only these, with `model` it evaluates that.

    Raises:
        resources.ledger.Conflict: another request of the project is active.
    """
    generation = another_generation(ledger.requests(source.project.name), revision)
    by = EVALUATION if plan.evaluates_only else PARTIAL if stages else "person"
    return ledger.open_request(
        source.project.name, revision, generation, reason, asked_by=by, base=plan.base, stages=stages, model=model
    )


def execute(
    clients: Clients,
    source: ProjectRepository,
    request: Request,
    only: Sequence[str] | None,
    say: Callable[[str], None],
) -> bool:
    """Runs a request in this process; returns whether it succeeded and was not rejected. The ledger has its outcome."""
    project = source.project
    settings, ledger = clients.settings, clients.ledger
    home = dagster_home(settings)
    tell = teller(clients, project)
    plan = plan_revision(source, ledger, clients.store, request.revision, request.base)
    stages = only or request.stages or plan.to_materialize
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for event in seen_events(source, ledger, plan, MaterializationHistory(instance, project.name)):
            instance.report_runless_asset_event(event)
        if not stages:
            # Another run completed it since it was planned. Dagster treats an empty selection as all assets.
            ledger.close(request, "done", "nothing left to do")
            say(f"{short(request.revision)}: nothing left to do")
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
            run_config=request_config(source, request),
        )
        now = ledger.now(request)
        if now.active and result.success:
            end = ended_well(refused_in(instance, request), request.ends_early)
            detail = plan.evaluates_only if end.status == "done" and plan.evaluates_only else end.detail
            ledger.close(now, end.status, detail)
        elif now.active and request.asked_by in INCOMPLETE:
            # Nothing retries a request that completes no commit; left open, it would block others.
            ledger.close(now, "failed", _failure(result) or "a requested stage failed; see its log")
        now = ledger.now(request)
        tag_outcome(instance, now)
        succeeded = result.success and now.status != "rejected"
        outcome = "failed" if not result.success else "rejected" if not succeeded else "succeeded"
        say(f"run {result.run_id} {outcome}")
        tell()
        return succeeded


def reconstruct_job(settings_json: str, project: str, job: str | None = None) -> dg.JobDefinition:
    """Rebuilds the project's job, or another job of the location, in the process that executes it."""
    settings = Settings.model_validate_json(settings_json)
    return build_definitions(settings).resolve_job_def(job or job_name(settings.project(project)))


def start_detached(settings: Settings, request: Request, only: Sequence[str] | None) -> int:
    """Executes a request in a separate process that outlives this one; returns its pid."""
    log = settings.home / "services" / f"run-{short(request.revision)}-{request.generation}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # -P: the working directory may be a project, whose own `resources` or `sensors` would be imported instead of ours.
    command = [sys.executable, "-P", "-m", "llmops_assets.cli", "execute", request.name]
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
    """Stops a request's run and programs and gives its traffic back; returns what was done, as text."""
    ledger = clients.ledger
    ledger.close(request, "cancelled", "cancelled by a person; `llmops retry` restarts it")
    with dg.DagsterInstance.from_config(str(dagster_home(clients.settings))) as instance:
        ended = end_work(instance, clients, project, request)
    found = ledger.rollout(project.name)
    if found and found[3].owner == request.owner and found[3].status == "promoted":
        served = f"its release {short(found[3].release)} was promoted before, and production serves it"
        ended = "; ".join([*([ended] if ended else []), served])
    return f"{short(request.revision)} is cancelled" + (f"; {ended}" if ended else "")


def resume_decided(ledger: Ledger, request: Request, reason: str) -> Request:
    """Opens the next generation of a request that was approved or reviewed, for execution in this process.

    Raises:
        resources.ledger.Conflict: a sensor was faster, or another run of the project is active.
    """
    generation = another_generation(ledger.requests(request.project), request.revision)
    return ledger.next_generation(request, generation, reason)


def roll_back(settings: Settings, project: ProjectSource, to: str, reason: str, by: str) -> tuple[bool, str]:
    """Rolls production back in this process; returns (success, error message)."""
    name = rollback_job_name(project)
    tell = teller(build_clients(settings), project)
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
        tell()
        return result.success, _failure(result)


def teller(clients: Clients, project: ProjectSource) -> Callable[[], None]:
    """Made before a run: reports afterwards what happened, to notifications and code host, as there may be no daemon.

    It waits a few seconds for slow targets; what it leaves, the daemon's sensors do, or `llmops notify`.
    """
    notifications, host = Notifications(project, clients), CodeHostAnswers(project, clients)

    def tell() -> None:
        with suppress(LedgerError, StillRunning):
            Background[Delivered](TELL_PATIENCE_S)(notifications.run)
        with suppress(LedgerError, StillRunning):
            Background[Answered](TELL_PATIENCE_S)(host.run)

    with suppress(LedgerError):
        if notifications.targets:
            notifications.enqueue()
        if project.code_host:
            host.begin()
    return tell


def _failure(result: dg.JobExecutionResult) -> str:
    """The error message of the first failed step; empty if none failed."""
    for data in (e.step_failure_data for e in result.all_events if e.is_step_failure):
        told = data.user_failure_data.description if data.user_failure_data else None
        return told or (data.error.message if data.error else "it failed")
    return ""


__all__ = [
    "cancel",
    "execute",
    "open_by_person",
    "reconstruct_job",
    "resume_decided",
    "roll_back",
    "start_detached",
    "teller",
]  # fmt: skip
