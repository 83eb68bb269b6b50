"""Everything that `llmops plan` says of one plan, as one value for text, Markdown and JSON. Pure.

`delivery.plan_report` gathers it; `domain.plan_markdown` and the command line print it.
"""

from typing import Any

from pydantic import Field

from llmops_assets.domain.chain import STAGES
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.plan import Plan
from llmops_assets.domain.plan_asks import Asked
from llmops_assets.domain.plan_changes import PlannedChange
from llmops_assets.domain.plan_estimate import PlanEstimate


class Reused(Frozen):
    """An existing result that the plan uses."""

    stage: str
    record: str = Field(description="Its key in the ledger.")
    commit: str = Field(description="The commit whose run made it.")
    run: str = Field(description="The Dagster run that made it.")
    at: str = Field(description="When: ISO 8601, UTC.")


class Line(Frozen):
    """One stage as people read it."""

    stage: str
    action: str
    why: str


class PlannedBudget(Frozen):
    """A plan compared with its budget."""

    limits: dict[str, float] = Field(description="run, month, project → the most that it may cost.")
    currency: str
    cost: float | None = Field(description="The upper end of the run's estimate; None: unknown.")
    spent: dict[str, float] = Field(description="month, project → what was computed for so far.")
    over: tuple[str, ...] = Field(description="What exceeds it, as text. Empty: nothing does.")
    waits: bool = Field(description="Whether a person must decide first.")
    says: str = Field(description="In one sentence.")
    command: str = Field(description="Approves exactly this run.")


class PlanReport(Frozen):
    plan: Plan
    subject: str = Field(description="First line of the commit's message.")
    changes: tuple[PlannedChange, ...] | None = Field(description="None: there is nothing to compare with.")
    reused: tuple[Reused, ...]
    estimate: PlanEstimate
    asked: tuple[Asked, ...]
    new: frozenset[str] = Field(description="Stages of which no result exists anywhere, so that they run for sure.")

    budget: PlannedBudget | None = Field(default=None, description="None: there is no limit.")
    lacks: tuple[str, ...] = Field(default=(), description="What a run would fail without, each with its remedy.")

    @property
    def lines(self) -> tuple[Line, ...]:
        """A line per stage whose action is known."""
        return tuple(
            Line(stage=s.stage, action="run", why=self._why_new(s.stage))
            if self._is_new(s.stage)
            else Line(stage=s.stage, action=s.action, why="; ".join(s.reasons))
            for s in self.plan.stages
            if s.action != "decide_later" or self._is_new(s.stage)
        )

    @property
    def later(self) -> tuple[str, ...]:
        """Stages that run or are reused, depending on results that this run computes."""
        return tuple(s.stage for s in self.plan.stages if s.action == "decide_later" and not self._is_new(s.stage))

    def _is_new(self, stage: str) -> bool:
        return self.plan[stage].action == "decide_later" and stage in self.new

    def _why_new(self, stage: str) -> str:
        after = ", ".join(STAGES[stage].upstream)
        return f"no history yet: nothing to reuse; after {after}" if after else "no history yet: nothing to reuse"

    @property
    def beside_the_plan(self) -> dict[str, Any]:
        """The keys of its JSON beside those of the plan itself."""
        return {
            "against": self.plan.base,
            "subject": self.subject,
            "changes": [{**c.model_dump(exclude={"values"}), "stages": list(c.stages)} for c in self.changes or ()],
            "reused": [r.model_dump() for r in self.reused],
            "estimate": self.estimate.model_dump(),
            "budget": self.budget.model_dump() if self.budget else None,
            "lacks": list(self.lacks),
            "asked": [a.model_dump() for a in self.asked],
            "nothing_to_do": self.plan.nothing_to_do,
        }
