"""What computing may cost: limits per run, per month and per project, and a person's decision to exceed them. Pure.

A limit is kept by the upper end of the estimate, since a median is exceeded every other time. An unknown cost is over
every limit: otherwise a first run, or hardware without a price, would spend without anyone's decision. What computes
nothing costs nothing, so a revert or a rollback never waits. `delivery.budgets` gathers what is compared here.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from llmops_assets.domain.approval import Author, PersonsDecision, Rules, Waiting, problem_of
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.models import Frozen, Strict
from llmops_assets.domain.rollout import Duration

Limit = Literal["run", "month", "project"]
LIMITS: tuple[Limit, ...] = ("run", "month", "project")
_OF = {"run": "this run", "month": "this month", "project": "this project so far"}


class MaxCost(Strict):
    """Limits in the currency of the settings (`compute.currency`). They need `compute.price_per_hour` there."""

    run: float | None = Field(default=None, ge=0, description="What one run may compute for. None: no limit.")
    month: float | None = Field(
        default=None, ge=0, description="What the project may compute for in a calendar month (UTC). None: no limit."
    )
    project: float | None = Field(
        default=None, ge=0, description="What the project may compute for in all. None: no limit."
    )


class Budget(Strict):
    """What computing may cost. A run over it waits for a person; it is policy, and changes no result."""

    max_cost: MaxCost = Field(default=MaxCost(), description="The limits; a cost that is not known is over each.")
    approvers: tuple[str, ...] = Field(
        default=(),
        description="E-mail addresses of those who may exceed it; empty: everyone except the authors of the change.",
    )
    expires_after: Duration = Field(
        default=7 * 86400.0, gt=0, description="How long a decision to exceed it is valid: 7d."
    )

    @property
    def limits(self) -> dict[Limit, float]:
        found = {name: getattr(self.max_cost, name) for name in LIMITS}
        return {name: value for name, value in found.items() if value is not None}


class Spent(Frozen):
    """What a project has computed for, from the ledger; work that ended without a result is not in it."""

    month: float = 0.0
    project: float = 0.0
    month_unpriced: tuple[str, ...] = Field(default=(), description="Hardware without a price that worked this month.")
    project_unpriced: tuple[str, ...] = ()


class Over(Frozen):
    """A limit that a run exceeds."""

    limit: Limit
    text: str


class BudgetAsk(Frozen):
    """What a person is asked: whether this commit's run may cost more than the budget."""

    project: str
    revision: str
    over: tuple[Limit, ...] = Field(description="The limits that it exceeds.")
    cost: float | None = Field(description="The upper end of its estimate; None: unknown.")


class BudgetDecision(PersonsDecision):
    """A person's decision on a budget."""

    ask: BudgetAsk


class WithinBudget(Frozen):
    decision: BudgetDecision | None = Field(default=None, description="None: no limit is exceeded.")

    @property
    def text(self) -> str:
        if self.decision is None:
            return "budget: within its limits"
        return f"budget approved by {self.decision.by}: {self.decision.reason}"


def over_limits(budget: Budget, cost: float | None, unknown: str, spent: Spent, currency: str) -> tuple[Over, ...]:
    """The limits that a run exceeds; none if it computes nothing.

    Args:
        cost: the upper end of its estimate; None: not known, 0: it computes nothing.
        unknown: why the cost is not known.
    """
    if cost == 0:
        return ()
    found = []
    for name, limit in budget.limits.items():
        before = 0.0 if name == "run" else getattr(spent, name)
        lacking = () if name == "run" else getattr(spent, f"{name}_unpriced")
        most = f"budget.max_cost.{name} is {figure(limit)} {currency}"
        if cost is None:
            found.append(Over(limit=name, text=f"{most}, and the cost of this run is not known: {unknown}"))
        elif lacking:
            why = f"{', '.join(lacking)} worked for it and has no price (compute.price_per_hour in the settings)"
            found.append(Over(limit=name, text=f"{most}, and the cost of {_OF[name]} is not known: {why}"))
        elif before + cost > limit:
            spent_before = f"{figure(before)} {currency} were spent, and " if name != "run" else ""
            text = f"{most}; {spent_before}this run may cost up to {figure(cost)} {currency}"
            found.append(Over(limit=name, text=text))
    return tuple(found)


def evaluate_budget(
    ask: BudgetAsk, decisions: Sequence[BudgetDecision], rules: Rules, authors: Sequence[Author], now: float
) -> WithinBudget | Waiting:
    """Whether a run over its budget may compute now.

    Args:
        decisions: those on this commit, oldest first. A rejection revokes every earlier approval.
    """
    reasons: list[str] = []
    for decision in reversed(decisions):
        who = f"{decision.choice} by {decision.by}"
        if decision.choice == "rejected":
            return Waiting(reasons=(f"{who}: {decision.reason}", *reasons), rejected=True)
        if problem := _not_covered(decision.ask, ask) or problem_of(decision.by, decision.at, rules, authors, now):
            reasons.append(f"{who}, not valid: {problem}")
        else:
            return WithinBudget(decision=decision)
    return Waiting(reasons=tuple(dict.fromkeys(reasons)))


def _not_covered(given: BudgetAsk, ask: BudgetAsk) -> str:
    """Why an approval does not cover what is asked now; empty if it does. Approving an unknown cost covers any."""
    if (given.project, given.revision) != (ask.project, ask.revision):
        return "it was given for another commit"
    if more := [name for name in ask.over if name not in given.over]:
        return f"max_cost.{', max_cost.'.join(more)} is exceeded now too"
    if given.cost is not None and (ask.cost is None or ask.cost > given.cost * 1.01):
        now = "is not known now" if ask.cost is None else f"may be {figure(ask.cost)} now"
        return f"the cost was {figure(given.cost)}, and {now}"
    return ""


def stricter_budget(one: Budget, other: Budget) -> Budget:
    """The lower of each limit. Who may decide: those whom both name, or those whom one of them names."""
    limits = {
        name: min(values) for name in LIMITS if (values := [b.limits[name] for b in (one, other) if name in b.limits])
    }
    both = tuple(who for who in one.approvers if who in other.approvers)
    return Budget(
        max_cost=MaxCost(**limits),
        approvers=both or other.approvers or one.approvers,
        expires_after=min(one.expires_after, other.expires_after),
    )


def loosened_budget(before: Budget, after: Budget) -> tuple[str, ...]:
    """Each way in which the second budget asks for less than the first."""
    found = []
    for name, limit in before.limits.items():
        now = after.limits.get(name)
        if now is None:
            found.append(f"budget removed: max_cost.{name} {figure(limit)}")
        elif now > limit:
            found.append(f"budget raised: max_cost.{name} {figure(limit)} → {figure(now)}")
    others = [who for who in after.approvers if who not in before.approvers]
    if before.limits and before.approvers and (others or not after.approvers):
        now_may = f"{', '.join(others)} added" if others else "anyone except the authors"
        found.append(f"approvers of the budget widened: {now_may}")
    if before.limits and after.expires_after > before.expires_after:
        found.append("decisions to exceed the budget expire later")
    return tuple(found)


def month_start(now: float) -> float:
    """When the calendar month of this time began, in UTC: epoch seconds."""
    return datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
