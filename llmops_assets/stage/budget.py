"""Asks, before a stage computes, whether the rest of its run is within the budget: however the run was launched."""

import dagster as dg

from llmops_assets.delivery.budgets import budget_state
from llmops_assets.domain.chain import WORK
from llmops_assets.domain.plan import StagePlan
from llmops_assets.stage.execution import OverBudget, StageExecution


def keep_budget(run: StageExecution) -> None:
    """Waits for a person if what this run still computes costs more than its budget allows.

    Raises:
        OverBudget: nobody has decided, or somebody decided against it.
    """
    keys = run.context.run.asset_selection
    selected = [s.name for s in WORK if keys is None or dg.AssetKey([run.project.name, s.name]) in keys]
    missing = {name for name in selected if name not in run.resolved.records}
    stages = [StagePlan(stage=name, action="run", reasons=()) for name in selected if name in missing]
    if run.stage.name not in missing:  # its artifact was lost, or the champion is measured beside it
        stages.append(StagePlan(stage=run.stage.name, action="reuse", reasons=(), measures_champion=True))
    state = budget_state(run, stages, run_id=run.run_id)
    if state is not None and state.pending is not None:
        if state.pending.rejected:
            raise OverBudget("; ".join(state.pending.reasons), "rejected")
        raise OverBudget(state.call)
