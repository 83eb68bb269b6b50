"""The sensor of the commits that are never deployed: other branches and pull requests, where the settings name them."""

import time
from typing import Any

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.planning import plan_revision
from llmops_assets.delivery.request_runs import explains_skips, run_request
from llmops_assets.domain.branches import StartCandidate, candidates, next_candidate, stages_within
from llmops_assets.domain.keys import short
from llmops_assets.domain.requests import Request, Skip, seen_to
from llmops_assets.domain.webhooks import LOOK, WAITS, WATCHES_TAG
from resources.assembly import RESOURCE_KEYS, Clients
from resources.ledger import Conflict
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository
from sensors.looking import begin_all


def build_branch_sensor(project: ProjectSource, job: Any, settings: Settings) -> dg.SensorDefinition:
    """Runs the newest commits of other branches and of pull requests, as far as the settings say."""

    @dg.sensor(
        name=f"{project.group}_branches",
        job=job,
        minimum_interval_seconds=settings.look_every,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Plans, checks or evaluates commits of {project.name} outside of branch {project.branch}, as "
        "`branches` and `pull_requests` in the settings say, and deploys none of them. A tick without a run says why.",
        required_resource_keys=set(RESOURCE_KEYS),
        tags={WATCHES_TAG: project.name},
    )
    @explains_skips
    def _sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        clients = Clients.of(context.resources)
        ledger, source = clients.ledger, clients.sources(project)
        announced = context.cursor == LOOK
        context.update_cursor(WAITS)  # until no commit waits, also if this tick fails
        source.looks.current("branches", on_new=lambda: begin_all(clients), fresh=announced)
        found = candidates(project.branches, project.pull_requests, source.git.branches(), source.git.pull_requests())
        deployed = source.git.head() if project.release_tags else None
        left = [
            c
            for c in found
            if (c.tip.revision != deployed if project.release_tags else not source.git.contains(c.tip.revision))
        ]
        told: list[str] = []
        while True:
            requests = ledger.requests(project.name)
            decision = next_candidate(project.name, requests, left, time.time(), _watched(source, requests))
            if isinstance(decision, Skip):
                if not decision.waits and not told:
                    context.update_cursor("")
                return dg.SkipReason("; ".join(told) or decision.reason)
            started = _start(clients, source, decision)
            if isinstance(started, dg.RunRequest):
                return started
            name = f"{decision.candidate.name}: "
            told.append(f"{name}{short(decision.candidate.tip.revision)}: {started.removeprefix(name)}")
            left.remove(decision.candidate)

    def _start(clients: Clients, source: ProjectRepository, decision: StartCandidate) -> dg.RunRequest | str:
        """Starts a candidate's run; says why if it does not."""
        ledger, revision = clients.ledger, decision.candidate.tip.revision
        base, stages, reason = source.git.head(), list[str](), decision.reason
        try:
            at = source.at(revision)
            plans_only = decision.candidate.run == "plan"
            if not plans_only and (waits := source.missing_data(at, in_tick=True)):
                return f"waits for data: {', '.join(waits)} is not in the DVC remote yet; run `dvc push`"
            plan = plan_revision(source, ledger, clients.store, revision, base)
            stages = stages_within(decision.asked_by, plan.to_materialize)
            if plans_only:
                reason += f": it would run {', '.join(plan.to_materialize) or 'nothing'}"
            elif not stages:
                reason = f"{decision.candidate.name}: nothing to do, all its results exist"
        except SourceError as error:
            return str(error)  # the next tick tries again
        except ConfigError as error:
            reason = f"{decision.candidate.name}: {error}"
        try:
            request = ledger.open_request(
                project.name, revision, decision.generation, reason,
                status="queued" if stages else "skipped", asked_by=decision.asked_by, base=base,
            )  # fmt: skip
        except Conflict as error:
            return f"another sensor or `llmops run` was faster: {error}"
        return run_request(source, request, stages) if stages else reason

    return _sensor


def _watched(source: ProjectRepository, requests: list[Request]) -> str | None:
    """Why the watched branch comes first; None if its head has been seen to."""
    head = source.git.head()
    if head is None or seen_to(requests, head):
        return None
    return f"the watched branch comes first, and {short(head)} of it has not been planned"
