"""Gathers what `llmops plan` says of a plan: changes by file and key, reused results, estimate, what will be asked."""

from llmops_assets.config.ignore_patterns import ignoring
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.budgets import budget_state
from llmops_assets.delivery.estimates import estimate_of
from llmops_assets.delivery.judges import missing_keys
from llmops_assets.delivery.references import PlannedRevision
from llmops_assets.delivery.release_policy import ReleasePolicy, release_policy
from llmops_assets.domain.budget import WithinBudget
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.plan import Plan
from llmops_assets.domain.plan_asks import asked
from llmops_assets.domain.plan_changes import PlannedChange, RevisionContent, planned_changes
from llmops_assets.domain.plan_estimate import PlanEstimate
from llmops_assets.domain.plan_report import PlannedBudget, PlanReport, Reused
from resources.ledger import Ledger
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository


def plan_report(candidate: PlannedRevision, plan: Plan) -> PlanReport:
    """The report on a plan of this revision."""
    source, ledger = candidate.source, candidate.ledger
    policy = release_policy(source, ledger, candidate.revision)
    estimate = estimate_of(candidate, plan)
    later = [s.stage for s in plan.stages if s.action == "decide_later"]
    return PlanReport(
        plan=plan,
        subject=source.git.message(candidate.revision),
        changes=_changes(source, plan),
        reused=tuple(_reused(ledger, plan)),
        estimate=estimate,
        budget=_budget(candidate, plan, estimate),
        asked=asked(plan, candidate.at.policy, _approver(policy), policy.review.who if policy.review else ""),
        lacks=_lacks(candidate, plan),
        new=frozenset(stage for stage in later if not ledger.has_stage(stage)),
    )


def _lacks(candidate: PlannedRevision, plan: Plan) -> tuple[str, ...]:
    """API keys that this process lacks. In the cluster profile the pods of the stages have them, and check it."""
    settings = candidate.source.settings
    computed = [s.stage for s in plan.stages if s.computes]
    return tuple(missing_keys(settings, candidate.at.config, computed)) if settings.profile == "local" else ()


def _budget(candidate: PlannedRevision, plan: Plan, estimate: PlanEstimate) -> PlannedBudget | None:
    state = budget_state(candidate, [s for s in plan.stages if s.computes], estimate)
    if state is None:
        return None
    currency, cost = candidate.source.settings.compute.currency, state.ask.cost
    limits = ", ".join(f"max_cost.{name} {figure(limit)} {currency}" for name, limit in state.budget.limits.items())
    if state.pending is not None:
        says = state.call
    else:
        says = f"budget: {limits}; this run may cost up to {figure(cost)} {currency}" if cost else f"budget: {limits}"
        says += f"; {state.found.text}" if state.over and isinstance(state.found, WithinBudget) else ""
    spent = {name: getattr(state.spent, name) for name in state.budget.limits if name != "run"}
    return PlannedBudget(
        limits=dict(state.budget.limits), currency=currency, cost=cost, spent=spent,
        over=tuple(o.text for o in state.over), waits=state.pending is not None, says=says, command=state.command,
    )  # fmt: skip


def _approver(policy: ReleasePolicy) -> str:
    """Who must approve the release, as text; empty if nobody must."""
    if not policy.needed:
        return ""
    named = policy.rules.approvers
    return f"one of {', '.join(named)}" if named else "a person who is no author of the change"


def _reused(ledger: Ledger, plan: Plan) -> list[Reused]:
    keys = {s.stage: s.key for s in plan.stages if s.action == "reuse" and s.key}
    found = ((stage, ledger.find(key)) for stage, key in keys.items())
    return [
        Reused(
            stage=stage,
            record=record.key,
            commit=record.made_by.revision,
            run=record.made_by.run_id,
            at=record.made_by.at,
        )
        for stage, record in found
        if record is not None
    ]


def _changes(source: ProjectRepository, plan: Plan) -> tuple[PlannedChange, ...] | None:
    if plan.base is None:
        return None
    try:
        return planned_changes(_content(source, plan.base), _content(source, plan.revision))
    except (ConfigError, SourceError):
        return None  # an unreadable base cannot explain anything


def _content(source: ProjectRepository, revision: str) -> RevisionContent:
    at = source.at(revision)
    files, ignored = source.git.files(revision), ignoring(at.config.ci.ignore)
    own = {path for paths in at.metric_files.values() for path in paths}
    return RevisionContent(
        values=at.values,
        config=at.config.model_dump(mode="json"),
        code={path: blob for path, blob in files.items() if path not in at.pointers and not ignored.match_file(path)},
        metric_files=at.metric_files,
        files={path: blob for path, blob in files.items() if path in own},
        image_files={path: files[path] for path in at.image_files},
    )
