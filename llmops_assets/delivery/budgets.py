"""Compares what a run would compute with its budget, and records people's decisions to exceed it.

The stages ask before they compute, however they were launched; the sensor, the CLI and `llmops plan` ask the same.
`llmops_assets.domain.budget` decides.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmops_assets.delivery.approvals import Refused, authors_of, remarks, required_reason
from llmops_assets.delivery.estimates import COMPUTING, estimate_of_stages
from llmops_assets.delivery.planning import base_of, plan_revision, planned_revision
from llmops_assets.delivery.references import Candidate, PlannedRevision
from llmops_assets.delivery.release_policy import release_policy
from llmops_assets.domain.approval import Choice, Rules, Waiting, refusals
from llmops_assets.domain.branches import stages_within
from llmops_assets.domain.budget import (
    Budget,
    BudgetAsk,
    BudgetDecision,
    Limit,
    Over,
    Spent,
    WithinBudget,
    evaluate_budget,
    month_start,
    over_limits,
)
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.plan import Plan, StagePlan
from llmops_assets.domain.plan_estimate import PlanEstimate
from llmops_assets.domain.records import Record
from llmops_assets.domain.requests import WAITS_FOR_BUDGET, Request
from resources.artifact_store.store import ArtifactStore
from resources.ledger import Ledger
from resources.project_source.revisions import ProjectRepository


class BudgetState(Frozen):
    """What is known of a run's cost and its budget."""

    budget: Budget
    because: str = ""
    """Why this budget applies, if the revision's llmops.yaml is not the reason."""
    rules: Rules
    spent: Spent
    over: tuple[Over, ...] = ()
    ask: BudgetAsk
    found: WithinBudget | Waiting

    @property
    def pending(self) -> Waiting | None:
        """What is missing; None if the run may compute."""
        return self.found if isinstance(self.found, Waiting) else None

    @property
    def command(self) -> str:
        return f"llmops approve {self.ask.project} --budget {short(self.ask.revision)} --reason WHY"

    @property
    def who(self) -> str:
        named = self.rules.approvers
        return f"one of {', '.join(named)}" if named else "a person who is no author of the change"

    @property
    def call(self) -> str:
        """The message of a run that waits."""
        said = remarks((), self.because, self.found) if isinstance(self.found, Waiting) else ""
        return (
            f"{WAITS_FOR_BUDGET} by {self.who}: {'; '.join(o.text for o in self.over)}. Decide with `{self.command}` "
            "(or reject)" + (f". {said}" if said else "")
        )


def budget_state(
    candidate: Candidate, stages: Sequence[StagePlan], estimate: PlanEstimate | None = None, run_id: str | None = None
) -> BudgetState | None:
    """Compares a run of these stages with its budget; None if there is no limit.

    Args:
        stages: those that it computes, or may.
        estimate: what they cost, if it is known already.
        run_id: the run that asks: what it has computed so far is not counted as spent before it.
    """
    source, ledger, project = candidate.source, candidate.ledger, candidate.project.name
    policy = release_policy(source, ledger, candidate.revision)
    budget = policy.budget
    if not budget.limits:
        return None
    compute = source.settings.compute
    computing = [s for s in stages if s.stage in COMPUTING]
    cost: float | None = 0.0
    unknown = "no price is configured (compute.price_per_hour in the settings)"
    if computing:
        found = estimate or estimate_of_stages(candidate, computing)
        cost = found.highest_cost
        if compute.price_per_hour:
            unknown = _unknown(found)
    spent = spent_of(ledger, project, compute.price_per_hour, budget, run_id)
    over = over_limits(budget, cost, unknown, spent, compute.currency)
    names: tuple[Limit, ...] = tuple(o.limit for o in over)
    ask = BudgetAsk(project=project, revision=candidate.revision, over=names, cost=cost)
    rules = Rules(
        key="budget",
        approvers=budget.approvers,
        expires_after=budget.expires_after,
        where=policy.budget_where,
    )
    state: WithinBudget | Waiting = WithinBudget()
    if over:
        authors = authors_of(source, ledger, candidate.revision)
        decisions = ledger.budget_decisions(project, candidate.revision)
        state = evaluate_budget(ask, decisions, rules, authors, ledger.clock())
    return BudgetState(
        budget=budget, because=policy.budget_because, rules=rules, spent=spent, over=over, ask=ask, found=state
    )


def _unknown(estimate: PlanEstimate) -> str:
    new = [s.stage for s in estimate.stages if s.stage in estimate.unpriced and s.seconds is None]
    unpriced = [f"{s.stage} ({s.note})" for s in estimate.stages if s.stage in estimate.unpriced and s.seconds]
    told = [f"no comparable run of {', '.join(new)} yet"] if new else []
    return "; ".join([*told, *unpriced])


def spent_of(
    ledger: Ledger, project: str, prices: dict[str, float], budget: Budget, run_id: str | None = None
) -> Spent:
    """What the project has computed for, as far as its limits ask."""
    since_month = month_start(ledger.clock())
    if not {"month", "project"} & set(budget.limits):
        return Spent()
    work = ledger.work_since(project, 0.0 if "project" in budget.limits else since_month)
    of_others = [(at, record) for at, record in work if record.made_by.run_id != run_id]
    month, month_unpriced = _priced((r for at, r in of_others if at >= since_month), prices)
    total, unpriced = _priced((r for _, r in of_others), prices)
    return Spent(month=month, project=total, month_unpriced=month_unpriced, project_unpriced=unpriced)


def _priced(records: Iterable[Record], prices: dict[str, float]) -> tuple[float, tuple[str, ...]]:
    """(cost, hardware without a price). An execution that commits several records counts once: the last one has all."""
    longest: dict[tuple[str, str], tuple[float, str]] = {}
    for record in records:
        made = record.made_by
        if record.stage in COMPUTING:
            execution = (made.run_id, record.stage)
            longest[execution] = max(longest.get(execution, (0.0, "")), (made.seconds, made.hardware))
    lacking = {hardware or "unknown hardware" for _, hardware in longest.values() if hardware not in prices}
    cost = sum(prices.get(hardware, 0.0) * seconds / 3600 for seconds, hardware in longest.values())
    return cost, tuple(sorted(lacking))


def planned_budget(candidate: PlannedRevision, stages: Sequence[StagePlan]) -> BudgetState | None:
    """The budget of a run of a plan's stages: those that compute for sure, and those that may."""
    return budget_state(candidate, [s for s in stages if s.computes])


def stages_of(request: Request, plan: Plan) -> list[StagePlan]:
    """The stages of a plan that a request's run may compute: not all for one of some stages, or of another branch."""
    allowed = stages_within(request.asked_by, [s.stage for s in plan.stages])
    return [s for s in plan.stages if s.stage in allowed and request.selects(s.stage)]


@dataclass(frozen=True)
class BudgetDecided:
    decision: BudgetDecision
    request: Request | None
    """The request that waited for the decision."""

    @property
    def why(self) -> str:
        """Why its request continues."""
        return WithinBudget(decision=self.decision).text


def waiting_for_budget(ledger: Ledger, project: str, revision: str | None = None) -> Request:
    """The request that a decision on a budget is about.

    Args:
        revision: the commit, or at least its first 6 characters; None: the one that waits.

    Raises:
        Refused: it does not wait for one.
    """
    if revision is not None and len(revision) < 6:
        raise Refused("give the commit, or at least its first 6 characters")
    waiting = [r for r in reversed(ledger.requests(project)) if r.waits_for_budget]
    request = next((r for r in waiting if revision is None or r.revision.startswith(revision)), None)
    if request is None:
        what = f"{short(revision)} of {project} does not wait" if revision else f"no commit of {project} waits"
        others = f"; {', '.join(short(r.revision) for r in waiting)} does" if waiting else ""
        raise Refused(f"{what} for a decision on its budget{others}")
    return request


def decide_budget(
    source: ProjectRepository, ledger: Ledger, store: ArtifactStore, choice: Choice, by: str, reason: str,
    revision: str | None = None,
) -> BudgetDecided:  # fmt: skip
    """Validates a decision to exceed the budget and adds it to the ledger.

    Args:
        revision: the commit, or at least its first 6 characters; None: the one that waits.

    Raises:
        Refused: nothing waits, another commit waits, or this person may not decide.
        Conflict: another decision was faster.
    """
    reason = required_reason(reason)
    project = source.project.name
    request = waiting_for_budget(ledger, project, revision)
    plan = plan_revision(source, ledger, store, request.revision, base_of(ledger, project, request.revision))
    state = planned_budget(planned_revision(source, ledger, store, request.revision), stages_of(request, plan))
    if state is None or not state.over:
        raise Refused(f"{short(request.revision)} is within its budget now; the daemon continues it")
    if wrong := refusals(choice, by, state.rules, authors_of(source, ledger, request.revision)):
        raise Refused("; ".join(wrong))
    decision = BudgetDecision(ask=state.ask, choice=choice, by=by.strip(), reason=reason, at=ledger.clock())
    ledger.decide_budget(decision, request)
    return BudgetDecided(decision=decision, request=request)
