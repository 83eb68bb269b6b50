"""Checks before a stage computes, however its run was launched: what the rest of the run needs and may cost."""

import dagster as dg

from llmops_assets.delivery.budgets import budget_state
from llmops_assets.delivery.judges import judges_of, missing_keys, unreachable
from llmops_assets.domain.chain import COMPARED, WORK
from llmops_assets.domain.plan import StagePlan
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.rejections import OverBudget


def before_computing(run: StageExecution) -> None:
    """Refuses a run that could not end, and waits for a person if it costs more than the budget allows.

    Raises:
        BadInput: a judge that an evaluation of this run asks has no API key, or no endpoint.
        OverBudget: nobody has decided, or somebody decided against it.
    """
    rest = _rest_of(run)
    _require_judges(run, rest)
    state = budget_state(run, rest, run_id=run.run_id)
    if state is not None and state.pending is not None:
        if state.pending.rejected:
            raise OverBudget("; ".join(state.pending.reasons), "rejected")
        raise OverBudget(state.call)


def _rest_of(run: StageExecution) -> list[StagePlan]:
    """What this run still computes."""
    keys = run.context.run.asset_selection
    selected = [s.name for s in WORK if keys is None or dg.AssetKey([run.project.name, s.name]) in keys]
    missing = {name for name in selected if name not in run.resolved.records}
    stages = [StagePlan(stage=name, action="run", reasons=()) for name in selected if name in missing]
    if run.stage.name not in missing:  # its artifact was lost, or the champion is measured beside it
        stages.append(StagePlan(stage=run.stage.name, action="reuse", reasons=(), measures_champion=True))
    return stages


def _require_judges(run: StageExecution, rest: list[StagePlan]) -> None:
    """Finds before the training what would otherwise end the run after it."""
    evaluations = [planned.stage for planned in rest if planned.stage in COMPARED]
    if not evaluations:
        return
    problems = missing_keys(run.settings, run.at.config) if _has_environment_of(run, evaluations[0]) else []
    problems += [problem for judge in judges_of(run.settings, run.at.config) if (problem := unreachable(judge))]
    if problems:
        raise BadInput(f"{'; '.join(problems)}; then `llmops retry {run.project.name}`")


def _has_environment_of(run: StageExecution, stage: str) -> bool:
    """Whether this process has the environment variables that the stage will have: its pod may get further secrets."""
    if not run.settings.steps_have_pods:
        return True
    pods = run.settings.kubernetes
    return set(pods.pod(stage).env_secrets) <= set(pods.pod(run.stage.name).env_secrets)
