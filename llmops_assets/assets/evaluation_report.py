"""evaluation_report: evaluates the checkpoint on the held-out rows.

Before a comparison, the champion is evaluated on the same rows with the same metrics: once, by key.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from llmops_assets.assets.evaluation_shared import (
    common_spec,
    describe,
    identity,
    judge_preferences,
    log_evaluation,
    measure_champion,
    measure_reference,
    secrets_of,
)
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.gate_evidence import verdict_on
from llmops_assets.delivery.references import ChampionNow, registered
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import (
    Checkpoint,
    DatasetVersion,
    EvaluationReport,
)
from llmops_assets.domain.verdict import Verdict
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import (
    EvaluateResult,
    EvaluateSpec,
)
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.base_model import base_of
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.launch_config import EvaluationConfig
from llmops_assets.stage.metadata import figure_of


def evaluate(
    run: StageExecution, checkpoint: Checkpoint, prompt: str, key: str, revision: str, title: str
) -> EvaluationReport:
    data = run.record(DatasetVersion, "dataset_version")
    spec = EvaluateSpec(
        method=checkpoint.method,
        base=str(base_of(run, checkpoint)),
        checkpoint=str(run.fetch(checkpoint)),
        prompt=prompt,
        title=title,
        **common_spec(run, data),
    )
    done = run.program("evaluate", spec, key=key, secrets=secrets_of(run))
    result = done.read(EvaluateResult)
    artifact = run.store.put(done.artifact)
    log_evaluation(run, "evaluation_report", key, revision, checkpoint, done, result.metrics)
    return EvaluationReport(
        **{**run.header, "key": key},
        metrics=result.metrics,
        rows=result.rows,
        cut=result.cut,
        measured_with=result.measured_with,
        tokenizer=result.tokenizer,
        refused=result.refused,
        uri=artifact.uri,
        digest=artifact.digest,
        checkpoint_digest=checkpoint.digest,
        **identity(run, data),
    )


def make(run: StageExecution) -> EvaluationReport:
    measure_champion(run, "evaluation_report", _champion)
    checkpoint = run.record(Checkpoint, "fine_tuned_checkpoint")
    title = f"{run.project.name} at {short(run.revision)}: {run.source.git.message(run.revision)}"
    return evaluate(run, checkpoint, run.at.values["prompt"], run.key, run.revision, title)


def _champion(run: StageExecution, champion: ChampionNow, key: str, title: str) -> EvaluationReport | None:
    if champion.checkpoint is None:
        return None
    return evaluate(run, champion.checkpoint, champion.at.values["prompt"], key, champion.revision, title)


def after(run: StageExecution, record: EvaluationReport) -> None:
    """Evaluates the champion if needed: a reused report may be older than the champion."""
    run.resolved.records["evaluation_report"] = record
    measure_champion(run, "evaluation_report", _champion, like=record)
    judge_preferences(run, record)
    if isinstance(run.config, EvaluationConfig) and run.config.model:
        model = _model(run, run.config.model)
        measure_reference(run, "evaluation_report", model, _champion, record)


def _model(run: StageExecution, name: str) -> ChampionNow:
    """The registered model that a person named.

    Raises:
        BadInput: there is no such model, or it cannot be evaluated any more.
    """
    found = registered(run, name)
    if found is None:
        raise BadInput(
            f"there is no model {name!r}. Remedy: name its version in the registry, its release or its commit, as "
            "`llmops releases` shows them"
        )
    if why := found.lost(run, "evaluation_report"):
        raise BadInput(f"model {name} cannot be evaluated: {why}")
    return found


def describe_with_model(run: StageExecution, record: EvaluationReport) -> Mapping[str, Any]:
    """The report's metadata, and the figures of the model that was evaluated too."""
    if not (isinstance(run.config, EvaluationConfig) and run.config.model):
        return describe(run, record)
    model = _model(run, run.config.model)
    report = model.report(run, "evaluation_report", record)
    figures = {f"model_{m.name}": figure_of(m.value) for m in report.metrics} if report is not None else {}
    return {**describe(run, record), "model": f"{run.config.model}, made by {short(model.revision)}", **figures}


def verdict(run: StageExecution, record: EvaluationReport) -> Verdict:
    return verdict_on(run, "evaluation_report")


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "evaluation_report",
        make,
        describe_with_model,
        kinds={"huggingface"},
        judge=verdict,
        require=verdict_on,
        after=after,
        config_type=EvaluationConfig,
    )
