"""Shared by both evaluation reports: the spec, the comparison with the champion, and the report's metadata."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.records import Checkpoint, DatasetVersion, Measured, Metric
from llmops_assets.programs.runtime.specs import MetricSpec
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.gate_evidence import ChampionNow, champion_now, compares_with_champion
from llmops_assets.stage.metadata import figure_of
from resources.compute.interface import Finished

MeasureChampion = Callable[[StageExecution, ChampionNow, str, str], Measured | None]
"""(run, champion, key, title) → the champion's report on this revision's rows; None if it has nothing to evaluate."""


def champion_figures(run: StageExecution, stage: str) -> dict[str, float]:
    champion = champion_now(run)
    report = champion.report(run, stage) if champion else None
    return {m.name: m.value for m in report.metrics} if report else {}


def common_spec(run: StageExecution, data: DatasetVersion) -> dict[str, Any]:
    evaluation = run.at.config.evaluation
    return {
        "data": str(run.fetch(data)),
        "metrics": metric_specs(run),
        "max_rows": evaluation.max_rows,
        "max_new_tokens": evaluation.max_new_tokens,
    }


def identity(run: StageExecution, data: DatasetVersion) -> dict[str, str]:
    return {"test_digest": data.test.digest, "metrics_digest": digest(run.at.values["evaluation"])}


def measure_champion(run: StageExecution, stage: str, measure: MeasureChampion) -> None:
    """Evaluates the champion on this revision's rows and metrics, unless a report exists or no gate needs it."""
    of = "checkpoint" if stage == "evaluation_report" else "served"
    champion = champion_now(run)
    if champion is None or not compares_with_champion(run, of) or champion.report(run, stage) is not None:
        return
    key = champion.key(run, stage)
    if key is None or key == run.key:
        return
    run.log.info(f"evaluating the champion {short(champion.release)} on the new rows or metrics first")
    subject = run.source.git.message(champion.revision)
    title = f"{run.project.name} at {short(champion.revision)}, the champion: {subject}"
    if (record := measure(run, champion, key, title)) is not None:
        run.commit(record)


def log_report(
    run: StageExecution, stage: str, key: str, checkpoint: Checkpoint, done: Finished, metrics: tuple[Metric, ...]
) -> None:
    of = "served" if stage == "served_evaluation_report" else "evaluation"
    figures = {f"{of}/{m.name}": m.value for m in metrics}
    report = done.artifact / "report.html"
    run.tracking.log_report(checkpoint.mlflow_run_id, report, report_name(stage, run.revision, key), figures)


def report_name(stage: str, revision: str, key: str) -> str:
    """A report's folder in an MLflow run's artifacts; one run may have several reports, for several prompts."""
    return f"{stage}-{short(revision)}-{key[:6]}"


def metric_specs(run: StageExecution) -> tuple[MetricSpec, ...]:
    tree = run.source.work_tree(run.revision)
    return tuple(
        MetricSpec(name=m)
        if isinstance(m, str)
        else MetricSpec(
            name=m.name, file=str(tree / m.file), function=m.function.split(":")[1], higher_is_better=m.higher_is_better
        )
        for m in run.at.config.evaluation.metrics
    )


def describe(run: StageExecution, record: Measured) -> Mapping[str, Any]:
    checkpoint = run.demand.records.get("fine_tuned_checkpoint")
    mlflow_run = checkpoint.mlflow_run_id if isinstance(checkpoint, Checkpoint) else ""
    name = report_name(record.stage, record.made_by.revision, record.key)
    url = run.tracking.report_url(run.project.name, mlflow_run, name)
    return {
        **{m.name: figure_of(m.value) for m in record.metrics},
        "rows": record.rows,
        "report": dg.MetadataValue.url(url) if url else dg.MetadataValue.path(f"{record.uri}/report.html"),
        "uri": dg.MetadataValue.path(record.uri),
    }
