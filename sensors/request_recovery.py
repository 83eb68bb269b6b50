"""The sensor that resumes requests: approved releases, and requests whose run ended without an outcome.

A thin shell over `llmops_assets.domain.requests`, like the other sensors.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.approvals import evaluate_current_approval
from llmops_assets.delivery.budgets import planned_budget, stages_of
from llmops_assets.delivery.planning import plan_revision, planned_revision
from llmops_assets.delivery.readiness import waits_for
from llmops_assets.delivery.reconciliation import Reconciler
from llmops_assets.delivery.report_reviews import call_for_review, review_state
from llmops_assets.delivery.request_runs import (
    OutcomeTags,
    end_of_run,
    explains_skips,
    refused_in,
    run_request,
    state_of_run,
)
from llmops_assets.delivery.rollout_pages import report_returned
from llmops_assets.domain.approval import Approved, Waiting
from llmops_assets.domain.branches import stages_within
from llmops_assets.domain.budget import WithinBudget
from llmops_assets.domain.chain import AFTER_APPROVAL
from llmops_assets.domain.keys import short
from llmops_assets.domain.recovery import Again, Close, Leave, RunState, after_waiting, recover
from llmops_assets.domain.report_review import Reviewed
from llmops_assets.domain.requests import Request
from resources.assembly import RESOURCE_KEYS, Clients
from resources.ledger import Conflict
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository
from sensors.serving_upkeep import ServingUpkeep


class MissingRunTimer:
    """Measures how long each request has lacked its run.

    Uses the monotonic clock, so it is valid in this process only: a new code server restarts the count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._since = clock, dict[str, float]()

    def seconds(self, request: Request, run: RunState) -> float:
        self._since = {request.name: self._since.get(request.name, self._clock())} if run == "missing" else {}
        return self._clock() - self._since[request.name] if self._since else 0.0


def build_recovery_sensor(
    project: ProjectSource, job: Any, settings: Settings, clock: Callable[[], float] = time.monotonic
) -> dg.SensorDefinition:
    """Resumes approved releases and requests whose run ended without an outcome; keeps the endpoints up."""
    missing, outcome_tags, shown_rollouts = MissingRunTimer(clock), OutcomeTags(), set[int]()
    upkeep = ServingUpkeep()

    @dg.sensor(
        name=f"{project.group}_recovery",
        job=job,
        minimum_interval_seconds=settings.upkeep,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Resumes approved releases and crashed runs of {project.name}, and keeps its endpoints as the "
        "ledger says, also after a reboot or an interrupted rollout.",
        required_resource_keys=set(RESOURCE_KEYS),
    )
    @explains_skips
    def _sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        clients = Clients.of(context.resources)
        try:
            decision = _resume(context, clients)
        finally:
            # Last, so that the traffic of a request that was just closed goes back in the same tick.
            wrong = upkeep(Reconciler.of(clients, project.name), context.log)
        if wrong and isinstance(decision, dg.SkipReason):
            return dg.SkipReason(f"{decision.skip_message}; {wrong}")
        return decision

    def _resume(context: dg.SensorEvaluationContext, clients: Clients) -> dg.RunRequest | dg.SkipReason:
        ledger, source = clients.ledger, clients.sources(project)
        requests = ledger.requests(project.name)
        outcome_tags.update(context.instance, requests)
        active = [r for r in requests if r.active]
        rollout = ledger.rollout(project.name)
        if not active and rollout and rollout[3].status != "running" and rollout[0] not in shown_rollouts:
            report_returned(context.instance, ledger, source)
            shown_rollouts.add(rollout[0])
        waiting = [r for r in requests if r.status == "waiting"]
        if not active and waiting:
            return _after_waiting(clients, source, requests, waiting)
        if not active:
            return dg.SkipReason("; ".join(["no active request", *map(str, ledger.holds(project.name))]))
        request = active[-1]
        run = state_of_run(context.instance, request)
        refused = refused_in(context.instance, request) if run == "succeeded" else ()
        ended, why = end_of_run(context.instance, request) if run == "failed" else (None, "")
        ended_s = time.time() - ended if ended is not None else None
        newest = request == requests[-1]
        decision = recover(
            request, run, newest, missing.seconds(request, run), refused, ended_s, why, settings.retry_pauses
        )
        if isinstance(decision, Leave):
            return dg.SkipReason(decision.reason)
        if isinstance(decision, Close):
            ledger.close(request, decision.status, decision.detail)
            return dg.SkipReason(f"{short(request.revision)} is {decision.status}: {decision.detail}")
        assert isinstance(decision, Again)
        if waits := waits_for(clients, source, request.revision):
            return dg.SkipReason(f"{short(request.revision)} waits to continue: {waits}")
        done = _next_generation(clients, source, request, decision)
        return dg.SkipReason(done) if isinstance(done, str) else done

    def _after_waiting(
        clients: Clients, source: ProjectRepository, requests: Sequence[Request], waiting: Sequence[Request]
    ) -> dg.RunRequest | dg.SkipReason:
        """Resumes the newest request that has been decided on; several wait only if branches are evaluated."""
        told: list[str] = []
        for request in reversed(waiting):
            decision = _next_step(clients, source, requests, request)
            if isinstance(decision, dg.RunRequest):
                return decision
            told.append(decision)
        return dg.SkipReason("; ".join(told))

    def _next_step(
        clients: Clients, source: ProjectRepository, requests: Sequence[Request], request: Request
    ) -> dg.RunRequest | str:
        ledger, sha = clients.ledger, short(request.revision)
        if request.waits_for_budget:
            return _after_budget(clients, source, requests, request)
        try:
            # The review first: it may have been rejected, or become necessary, while the release waits for approval.
            review = review_state(source, ledger, request.revision)
            found: Approved | Reviewed | Waiting = review.found
            if isinstance(found, Reviewed) and not request.waits_for_review:
                found = evaluate_current_approval(source, ledger, request.revision)
            decision = after_waiting(requests, request, found)
        except (ConfigError, SourceError) as error:
            return f"{sha} waits for a person, but cannot be read now: {error}"
        unseen = review.pending is not None and review.ask is not None and not request.waits_for_review
        call = call_for_review(review, request.revision) if unseen else None
        return _follow(clients, source, request, decision, call)

    def _after_budget(
        clients: Clients, source: ProjectRepository, requests: Sequence[Request], request: Request
    ) -> dg.RunRequest | str:
        """Continues a run that waits for its budget: somebody approved it, or it is within its limits now."""
        ledger, sha = clients.ledger, short(request.revision)
        try:
            plan = plan_revision(source, ledger, clients.store, request.revision, request.base)
            candidate = planned_revision(source, ledger, clients.store, request.revision)
            state = planned_budget(candidate, stages_of(request, plan))
        except (ConfigError, SourceError) as error:
            return f"{sha} waits for a person, but cannot be read now: {error}"
        decision = after_waiting(requests, request, state.found if state else WithinBudget())
        return _follow(clients, source, request, decision, state.call if state else None)

    def _follow(
        clients: Clients, source: ProjectRepository, request: Request, decision: Leave | Close | Again, call: str | None
    ) -> dg.RunRequest | str:
        """Does what was decided about a request that waits; `call`: what a person is asked, if it still waits."""
        sha = short(request.revision)
        if isinstance(decision, Leave):
            return f"{sha} is {call}" if call else decision.reason
        if isinstance(decision, Close):
            clients.ledger.settle_waiting(request, decision.status, decision.detail)
            return f"{sha} is {decision.status}: {decision.detail}"
        released = not (request.waits_for_review or request.waits_for_budget)
        return _next_generation(clients, source, request, decision, AFTER_APPROVAL if released else ())

    def _next_generation(
        clients: Clients, source: ProjectRepository, request: Request, decision: Again, stages: Sequence[str] = ()
    ) -> dg.RunRequest | str:
        """Plans the run, then opens the next generation: an error while planning changes nothing about the request.

        Args:
            stages: what the run does; empty: the request's own, or what the plan finds.
        """
        ledger, sha = clients.ledger, short(request.revision)
        try:
            if not (stages := stages or request.stages):
                plan = plan_revision(source, ledger, clients.store, request.revision, request.base)
                stages = stages_within(request.asked_by, plan.to_materialize)
            again = ledger.next_generation(request, decision.generation, decision.reason)
        except Conflict as error:
            return f"another process already resumed it: {error}"
        except (ConfigError, SourceError) as error:
            return f"{sha} cannot be planned: {error}"
        if not stages:
            ledger.close(again, "done", "nothing left to do")
            return f"{sha}: nothing left to do"
        return run_request(source, again, stages)

    return _sensor
