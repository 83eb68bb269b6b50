"""Reads what earlier runs of a project took, for the estimate of a plan. `domain.plan_estimate` computes it."""

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress

from llmops_assets.config.training import Training
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.gate_evidence import lacks_comparison, of_stage
from llmops_assets.delivery.references import Candidate, champion_now, compares_with_champion
from llmops_assets.domain.chain import COMPARED, WORK
from llmops_assets.domain.plan import Plan, StagePlan
from llmops_assets.domain.plan_estimate import LAST, PastRun, PlanEstimate, StageEstimate, estimate_plan, estimate_stage
from llmops_assets.domain.records import AnyRecord, Checkpoint, DatasetVersion, Measured
from resources.project_source.errors import SourceError

COMPUTING = tuple(stage.name for stage in WORK)
"""Stages that cost something; the others move traffic, which the endpoints' own machines pay for."""
SAME_STEP = ("method", "batch_size", "gradient_accumulation", "max_length", "lora")
"""Keys of `training` that decide how long one step takes: runs with others are not comparable."""


def estimate_of(candidate: Candidate, plan: Plan) -> PlanEstimate:
    """The estimate of everything that a run of this plan computes and deploys."""
    return estimate_of_stages(candidate, [s for s in plan.stages if s.computes])


def estimate_of_stages(candidate: Candidate, stages: Iterable[StagePlan]) -> PlanEstimate:
    """The estimate of a run of these stages."""
    compute = candidate.source.settings.compute
    found = [estimate_one(candidate, planned) for planned in stages]
    return estimate_plan(found, COMPUTING, compute.currency if compute.price_per_hour else None)


def estimate_one(candidate: Candidate, planned: StagePlan) -> StageEstimate:
    """The estimate of one stage that a plan runs."""
    stage = planned.stage
    prices = candidate.source.settings.compute.price_per_hour if stage in COMPUTING else None
    records = candidate.ledger.recent(candidate.project.name, stage, LAST)
    size, what = _size(candidate, stage)
    twice = stage in COMPARED and not planned.measures_champion and _measures_champion(candidate, stage)
    return estimate_stage(
        stage,
        planned.action != "decide_later" or not candidate.ledger.has_stage(stage),
        [run for record in records for run in _past_run(candidate, record)],
        size=size,
        what=what,
        times=2 if twice else 1,
        prices=prices,
    )


def _past_run(candidate: Candidate, record: AnyRecord) -> Iterator[PastRun]:
    """The run that made a record, if it tells how long the stage takes now."""
    made = record.made_by
    # A program that an earlier generation began is adopted: it worked longer than the stage that committed its result.
    seconds = max(made.seconds, made.program_seconds)
    if isinstance(record, Checkpoint):
        if record.resumed_from_step or not _same_step(candidate, record):
            return
        growing = record.tokens / record.tokens_per_s if record.tokens_per_s > 0 else None
        yield PastRun(seconds=seconds, hardware=made.hardware, size=record.steps or None, growing=growing)
    elif isinstance(record, Measured):
        yield PastRun(seconds=seconds, hardware=made.hardware, size=record.rows or None)
    else:
        yield PastRun(seconds=seconds, hardware=made.hardware)


def _same_step(candidate: Candidate, record: Checkpoint) -> bool:
    """Whether a step of that training took as long as one of this revision's."""
    try:
        before = candidate.source.at(record.made_by.revision, served=True)
    except (ConfigError, SourceError):
        return False
    same_base = before.values["model.base"] == candidate.at.values["model.base"]
    return same_base and _step(before.config.training) == _step(candidate.at.config.training)


def _step(training: Training) -> tuple[object, ...]:
    return tuple(getattr(training, key) for key in SAME_STEP)


def _size(candidate: Candidate, stage: str) -> tuple[float | None, str]:
    """(what a stage will work on, its unit); None as long as it is not known."""
    data = candidate.resolved.records.get("dataset_version")
    rows = data if isinstance(data, DatasetVersion) else None
    config = candidate.at.config
    if stage == "fine_tuned_checkpoint":
        return _steps(config.training, rows.train.rows if rows else None), "steps"
    if stage in COMPARED:
        most = config.evaluation.max_rows
        return (min(rows.test.rows, most or rows.test.rows) if rows else most), "rows"
    return None, ""


def _steps(training: Training, rows: int | None) -> float | None:
    if training.max_steps is not None:
        return float(training.max_steps)
    if rows is None:
        return None
    batches = math.ceil(rows / training.batch_size)
    return float(math.ceil(training.epochs * math.ceil(batches / training.gradient_accumulation)))


def _measures_champion(candidate: Candidate, stage: str) -> bool:
    """Whether the champion is measured too, before the gates compare with it."""
    with suppress(ConfigError, SourceError):
        if "dataset_version.test" in candidate.resolved.outputs:
            return lacks_comparison(candidate, stage)
        champion = champion_now(candidate)
        if champion is None or not compares_with_champion(candidate, of_stage(stage)):
            return False
        return bool(champion.at.values["data"]["test"] != candidate.at.values["data"]["test"])
    return False
