"""Runs started by a person: on the same ledger and the same Dagster instance, with or without a daemon beside.

`launch` takes the ledger's lock first, so a daemon's sensors and this never start the same change twice.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import dagster as dg
import psutil

from llmops_assets.definitions import build_definitions, job_name
from llmops_assets.domain.keys import short
from llmops_assets.domain.plan import Plan
from llmops_assets.domain.requests import Request
from llmops_assets.local import dagster_home
from llmops_assets.settings import ProjectSource, Settings
from llmops_assets.stage import PROJECT_TAG, REQUEST_TAG, REVISION_TAG
from resources.ledger import Ledger
from resources.planning import plan_revision
from resources.run_launcher import worker_of, worker_tags
from resources.source import Source
from sensors.build import reused_events, shown_version, state_of_run


def open_by_person(source: Source, ledger: Ledger, revision: str, plan: Plan, reason: str) -> Request:
    """The ledger's row of this run.

    Raises:
        resources.ledger.Conflict: another request of the project is at work.
    """
    known = [r.generation for r in ledger.requests(source.project.name) if r.revision == revision]
    return ledger.open_request(
        source.project.name, revision, max(known, default=0) + 1, reason, asked_by="person", base=plan.base
    )


def execute(
    settings: Settings,
    source: Source,
    ledger: Ledger,
    request: Request,
    only: Sequence[str] | None,
    say: Callable[[str], None],
) -> bool:
    """Runs a request here and now; True if it ended well. Its outcome stands in the ledger."""
    project = source.project
    home = dagster_home(settings)
    plan = plan_revision(source, ledger, request.revision, request.base)
    stages = only or plan.to_materialize
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for event in reused_events(source, ledger, plan, shown_version(instance, project.name)):
            instance.report_runless_asset_event(event)
        job = dg.build_reconstructable_job(
            "llmops_assets.execution",
            "reconstruct_job",
            reconstructable_kwargs={"settings_json": settings.model_dump_json(), "project": project.name},
        )
        tags = {PROJECT_TAG: project.name, REVISION_TAG: request.revision, REQUEST_TAG: request.name}
        result = dg.execute_job(
            job,
            instance=instance,
            tags={**tags, **worker_tags(psutil.Process(os.getpid()))},
            asset_selection=[dg.AssetKey([project.name, s]) for s in stages],
        )
        now = next(r for r in ledger.requests(project.name) if r.name == request.name)
        if result.success and now.active:
            ledger.close(now, "done", "every selected stage is done")
        say(f"run {result.run_id} {'succeeded' if result.success else 'failed'}")
        return result.success


def reconstruct_job(settings_json: str, project: str) -> dg.JobDefinition:
    """The project's job, rebuilt in whatever process executes it."""
    settings = Settings.model_validate_json(settings_json)
    return build_definitions(settings).resolve_job_def(job_name(settings.project(project)))


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


def cancel(settings: Settings, ledger: Ledger, request: Request, wait_s: float = 20.0) -> str:
    """Ends a request's run and its programs; what was done, in words."""
    ledger.close(request, "cancelled", "cancelled by a person; `llmops retry` starts it again")
    from resources.compute import LocalCompute

    jobs = LocalCompute(settings.home).cancel_all()
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        for run in instance.get_runs(filters=dg.RunsFilter(tags={REQUEST_TAG: request.name})):
            worker = worker_of(run)
            if worker is not None and not run.is_finished:
                worker.send_signal(2)
                deadline = time.monotonic() + wait_s
                while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
                    time.sleep(0.2)
            current = instance.get_run_by_id(run.run_id)
            if current is not None and not current.is_finished:
                instance.report_run_canceled(current)
    return f"{short(request.revision)} is cancelled" + (f"; ended {', '.join(jobs)}" if jobs else "")


__all__ = ["ProjectSource", "cancel", "execute", "open_by_person", "reconstruct_job", "start_detached", "state_of_run"]
