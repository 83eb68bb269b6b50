"""evaluation_report and served_evaluation_report: the same metrics, on the checkpoint and on the engine that serves it.

Before a comparison with the champion, the champion is measured on the same rows with the same metrics: once, by key.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from llmops_assets.assets.dataset_version import base_of
from llmops_assets.config.settings import ProjectSource, Settings
from llmops_assets.domain.gate import Verdict
from llmops_assets.domain.keys import digest, short, stage_key
from llmops_assets.domain.records import (
    Checkpoint,
    DatasetVersion,
    EvaluationReport,
    Measured,
    Metric,
    QuantizedArtifact,
    ServedEvaluationReport,
    ServedSpeed,
)
from llmops_assets.domain.release import release_of
from llmops_assets.programs.runtime.specs import (
    EvaluateResult,
    EvaluateSpec,
    MetricSpec,
    ServedEvaluateResult,
    ServedEvaluateSpec,
)
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import StageRun, figure_of
from llmops_assets.stage.gate_evidence import champion_now, compares_with_champion, verdict_on
from resources.compute.local import Finished, hardware_class
from resources.project_source.revisions import ProjectRevision


def metric_specs(run: StageRun) -> tuple[MetricSpec, ...]:
    tree = run.source.work_tree(run.revision)
    return tuple(
        MetricSpec(name=m)
        if isinstance(m, str)
        else MetricSpec(
            name=m.name, file=str(tree / m.file), function=m.function.split(":")[1], higher_is_better=m.higher_is_better
        )
        for m in run.at.config.evaluation.metrics
    )


def _champion_figures(run: StageRun, stage: str) -> dict[str, float]:
    champion = champion_now(run)
    report = champion.report(run, stage) if champion else None
    return {m.name: m.value for m in report.metrics} if report else {}


def _common(run: StageRun, data: DatasetVersion) -> dict[str, Any]:
    evaluation = run.at.config.evaluation
    return {
        "data": str(run.fetch(data)),
        "metrics": metric_specs(run),
        "max_rows": evaluation.max_rows,
        "max_new_tokens": evaluation.max_new_tokens,
    }


def _identity(run: StageRun, data: DatasetVersion) -> dict[str, str]:
    return {"test_digest": data.test.digest, "metrics_digest": digest(run.at.values["evaluation"])}


# -- evaluation_report ----------------------------------------------------------------------------------------------


def _evaluate(
    run: StageRun, checkpoint: Checkpoint, prompt: str, key: str, title: str, champion: dict[str, float]
) -> EvaluationReport:
    data = run.record(DatasetVersion, "dataset_version")
    spec = EvaluateSpec(
        method=checkpoint.method,
        base=str(base_of(run, checkpoint)),
        checkpoint=str(run.fetch(checkpoint)),
        prompt=prompt,
        title=title,
        champion=champion,
        **_common(run, data),
    )
    done = run.program("evaluate", spec, key=key)
    result = done.read(EvaluateResult)
    artifact = run.store.put(done.artifact)
    _show_report(run, "evaluation_report", key, checkpoint, done, result.metrics)
    return EvaluationReport(
        **{**run.header, "key": key},
        metrics=result.metrics,
        rows=result.rows,
        uri=artifact.uri,
        digest=artifact.digest,
        checkpoint_digest=checkpoint.digest,
        **_identity(run, data),
    )


def make(run: StageRun) -> EvaluationReport:
    _measure_champion(run, "evaluation_report")
    checkpoint = run.record(Checkpoint, "fine_tuned_checkpoint")
    title = f"{run.project.name} at {short(run.revision)}: {run.source.git.message(run.revision)}"
    return _evaluate(
        run, checkpoint, run.at.values["prompt"], run.key, title, _champion_figures(run, "evaluation_report")
    )


def _measure_champion(run: StageRun, stage: str) -> None:
    """Measures the champion on this revision's rows and metrics, unless that was done before or no gate asks for it."""
    of = "checkpoint" if stage == "evaluation_report" else "served"
    champion = champion_now(run)
    if champion is None or not compares_with_champion(run, of) or champion.report(run, stage) is not None:
        return
    key = champion.key(run, stage)
    if key is None or key == run.key:
        return
    run.log.info(f"the champion {short(champion.release)} is measured on the new rows or metrics first")
    subject = run.source.git.message(champion.revision)
    title = f"{run.project.name} at {short(champion.revision)}, the champion: {subject}"
    record: Measured
    if stage == "evaluation_report" and champion.checkpoint is not None:
        record = _evaluate(run, champion.checkpoint, champion.at.values["prompt"], key, title, {})
    elif champion.artifact is not None and champion.checkpoint is not None:
        record, _ = _served(run, champion.artifact, champion.checkpoint, champion.at, key, title, {}, speed=False)
    else:
        return
    run.commit(record)


def _show_report(
    run: StageRun, stage: str, key: str, checkpoint: Checkpoint, done: Finished, metrics: tuple[Metric, ...]
) -> None:
    of = "served" if stage == "served_evaluation_report" else "evaluation"
    figures = {f"{of}/{m.name}": m.value for m in metrics}
    report = done.artifact / "report.html"
    run.tracking.log_report(checkpoint.mlflow_run_id, report, _report_name(stage, run.revision, key), figures)


def _report_name(stage: str, revision: str, key: str) -> str:
    """The folder of a report among an MLflow run's artifacts; one run may have several, of several prompts."""
    return f"{stage}-{short(revision)}-{key[:6]}"


def describe(run: StageRun, record: Measured) -> Mapping[str, Any]:
    checkpoint = run.demand.records.get("fine_tuned_checkpoint")
    mlflow_run = checkpoint.mlflow_run_id if isinstance(checkpoint, Checkpoint) else ""
    name = _report_name(record.stage, record.made_by.revision, record.key)
    url = run.tracking.report_url(run.project.name, mlflow_run, name)
    return {
        **{m.name: figure_of(m.value) for m in record.metrics},
        "rows": record.rows,
        "report": dg.MetadataValue.url(url) if url else dg.MetadataValue.path(f"{record.uri}/report.html"),
        "uri": dg.MetadataValue.path(record.uri),
    }


def after(run: StageRun, record: EvaluationReport) -> None:
    """A reused report may be older than the champion: the comparison still needs the champion's own."""
    run.demand.records["evaluation_report"] = record
    _measure_champion(run, "evaluation_report")


def verdict(run: StageRun, record: EvaluationReport) -> Verdict:
    return verdict_on(run, "evaluation_report")


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "evaluation_report",
        make,
        describe,
        kinds={"huggingface"},
        checks={"gates": verdict},
        require=verdict_on,
        after=after,
    )


# -- served_evaluation_report ---------------------------------------------------------------------------------------


def _served(
    run: StageRun,
    artifact: QuantizedArtifact,
    checkpoint: Checkpoint,
    at: ProjectRevision,
    key: str,
    title: str,
    champion: dict[str, float],
    speed: bool,
) -> tuple[ServedEvaluationReport, Finished]:
    data = run.record(DatasetVersion, "dataset_version")
    release = release_of(run.project.name, at.values, artifact)
    unquantized = run.demand.records.get("evaluation_report")
    spec = ServedEvaluateSpec(
        model=str(run.fetch(artifact) / artifact.file),
        tokenizer=str(run.fetch(checkpoint)),
        chat_template=release.chat_template,
        model_chat_template=artifact.chat_template,
        serving=release.serving,
        prompt=at.values["prompt"],
        speed_requests=16 if speed else 0,
        title=title,
        champion=champion,
        unquantized={m.name: m.value for m in unquantized.metrics} if isinstance(unquantized, EvaluationReport) else {},
        **_common(run, data),
    )
    done = run.program("served_evaluate", spec, key=key)
    result = done.read(ServedEvaluateResult)
    stored = run.store.put(done.artifact)
    _show_report(run, "served_evaluation_report", key, checkpoint, done, result.metrics)
    report = ServedEvaluationReport(
        **{**run.header, "key": key},
        uri=stored.uri,
        digest=stored.digest,
        artifact_digest=artifact.digest,
        engine=at.config.deployment.engine,
        **_identity(run, data),
        **result.model_dump(exclude={"load", "libraries"}),
    )
    return report, done


def _speed_key(run: StageRun, record_key: str) -> str:
    return stage_key("served_speed", 1, {"hardware": hardware_class()}, {"served_evaluation_report": record_key})


def make_served(run: StageRun) -> ServedEvaluationReport:
    _measure_champion(run, "served_evaluation_report")
    artifact = run.record(QuantizedArtifact, "quantized_artifact")
    title = f"{run.project.name} at {short(run.revision)}: {run.source.git.message(run.revision)}"
    figures = _champion_figures(run, "served_evaluation_report")
    checkpoint = run.record(Checkpoint, "fine_tuned_checkpoint")
    report, done = _served(run, artifact, checkpoint, run.at, run.key, title, figures, speed=True)
    load = done.read(ServedEvaluateResult).load
    run.ledger.commit(
        ServedSpeed(**{**run.header, "key": _speed_key(run, run.key)}, hardware=hardware_class(), load=load)
    )
    return report


def describe_served(run: StageRun, record: ServedEvaluationReport) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        **describe(run, record),
        "engine": record.engine,
        "size_mb": round(record.size_bytes / 1e6, 1),
        "token_parity": f"{record.parity_rows - record.parity_mismatches} of {record.parity_rows} rows",
    }
    speed = run.ledger.find(_speed_key(run, record.key))
    if isinstance(speed, ServedSpeed):
        for load in speed.load:
            clients = f"{load.clients}_client" + ("s" if load.clients > 1 else "")
            found[f"tokens_per_s_{clients}"] = figure_of(load.tokens_per_s)
            found[f"p95_latency_s_{clients}"] = figure_of(load.latency_p95_s)
            found[f"p50_first_token_s_{clients}"] = figure_of(load.first_token_p50_s)
        found["hardware"] = speed.hardware
    return found


def after_served(run: StageRun, record: ServedEvaluationReport) -> None:
    run.demand.records["served_evaluation_report"] = record
    _measure_champion(run, "served_evaluation_report")


def verdict_served(run: StageRun, record: ServedEvaluationReport) -> Verdict:
    return verdict_on(run, "served_evaluation_report")


def build_served(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "served_evaluation_report",
        make_served,
        describe_served,
        kinds={"llamacpp"},
        require=verdict_on,
        checks={"gates": verdict_served},
        after=after_served,
    )
