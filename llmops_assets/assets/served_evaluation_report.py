"""served_evaluation_report: the same metrics on the serving engine, with token parity, size and speed."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from llmops_assets.assets import evaluation_shared
from llmops_assets.assets.evaluation_shared import (
    common_spec,
    identity,
    judge_preferences,
    log_evaluation,
    measure_champion,
    secrets_of,
)
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.gate_evidence import verdict_on
from llmops_assets.delivery.references import ChampionNow, references
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import (
    Checkpoint,
    DatasetVersion,
    Measured,
    QuantizedArtifact,
    ServedEvaluationReport,
    ServedSpeed,
)
from llmops_assets.domain.release import release_of
from llmops_assets.domain.served_figures import compares_speed, speed_key
from llmops_assets.domain.verdict import Verdict
from llmops_assets.programs.runtime.specs import ServedEvaluateResult, ServedEvaluateSpec
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.metadata import figure_of
from resources.compute.interface import Finished, hardware_class
from resources.project_source.resolved_revision import ProjectRevision


def evaluate_served(
    run: StageExecution,
    artifact: QuantizedArtifact,
    checkpoint: Checkpoint,
    at: ProjectRevision,
    key: str,
    title: str,
    speed: bool,
    unquantized: Measured | None,
) -> tuple[ServedEvaluationReport, Finished]:
    data = run.record(DatasetVersion, "dataset_version")
    release = release_of(run.project.name, at.values, artifact)
    spec = ServedEvaluateSpec(
        model=str(run.fetch(artifact) / artifact.file),
        engine=release.engine,
        tokenizer=str(run.fetch(checkpoint)),
        chat_template=release.chat_template,
        model_chat_template=artifact.chat_template,
        serving=release.serving,
        sampling=release.sampling,
        prompt=at.values["prompt"],
        engine_start_s=run.settings.serving.start_timeout,
        speed_requests=16 if speed else 0,
        title=title,
        unquantized=_figures(unquantized, identity(run, data)),
        **common_spec(run, data, served=True),
    )
    done = run.program("served_evaluate", spec, key=key, secrets=secrets_of(run))
    result = done.read(ServedEvaluateResult)
    stored = run.store.put(done.artifact)
    log_evaluation(run, "served_evaluation_report", key, at.revision, checkpoint, done, result.metrics)
    report = ServedEvaluationReport(
        **{**run.header, "key": key},
        uri=stored.uri,
        digest=stored.digest,
        artifact_digest=artifact.digest,
        engine=at.config.deployment.engine,
        **identity(run, data),
        **result.model_dump(exclude={"load", "libraries"}),
    )
    return report, done


def _figures(unquantized: Measured | None, rows: dict[str, str]) -> dict[str, float]:
    """The figures of the same checkpoint before quantization, if they are of the same rows and metrics."""
    if unquantized is None or any(getattr(unquantized, name) != value for name, value in rows.items()):
        return {}
    return {m.name: m.value for m in unquantized.metrics}


def _note_speed(run: StageExecution, report: str, done: Finished) -> None:
    """Records the speed that was measured for a report (its key)."""
    here, load = done.hardware or hardware_class(), done.read(ServedEvaluateResult).load
    run.ledger.commit(ServedSpeed(**{**run.header, "key": speed_key(here, report)}, hardware=here, load=load))


def _champion(run: StageExecution, champion: ChampionNow, key: str, title: str) -> ServedEvaluationReport | None:
    if champion.artifact is None or champion.checkpoint is None:
        return None
    at, own = champion.at, champion.report(run, "evaluation_report")
    speed = compares_speed(run.at.policy.gates)
    report, done = evaluate_served(run, champion.artifact, champion.checkpoint, at, key, title, speed, own)
    if speed:
        _note_speed(run, key, done)
    return report


def _measure_speeds(run: StageExecution, record: ServedEvaluationReport) -> None:
    """Measures the speed of releases that gates compare with, whose reports were made on other hardware or without it.

    Only the load test of this evaluation is kept.
    """
    here = record.made_by.hardware
    # Whether this machine has GPUs of that class, only the program can tell: it notes the speed under what it used.
    if not compares_speed(run.at.policy.gates) or (here != hardware_class() and not here.startswith("gpu-")):
        return
    for other in references(run, "served"):
        found = other.report(run, "served_evaluation_report", record)
        if found is None or found.key == record.key or run.ledger.find(speed_key(here, found.key)):
            continue
        if other.lost(run, "served_evaluation_report") or other.artifact is None or other.checkpoint is None:
            continue
        run.log.info(f"measuring the speed of the {other.called} {short(other.release)} on {here}")
        title = f"{run.project.name} at {short(other.revision)}, the {other.called}"
        key = speed_key(here, found.key)  # an MLflow run of its own: the report's figures stay
        _, done = evaluate_served(run, other.artifact, other.checkpoint, other.at, key, title, True, None)
        _note_speed(run, found.key, done)


def make(run: StageExecution) -> ServedEvaluationReport:
    measure_champion(run, "served_evaluation_report", _champion)
    artifact = run.record(QuantizedArtifact, "quantized_artifact")
    title = f"{run.project.name} at {short(run.revision)}: {run.source.git.message(run.revision)}"
    checkpoint = run.record(Checkpoint, "fine_tuned_checkpoint")
    own = run.resolved.records.get("evaluation_report")
    own = own if isinstance(own, Measured) else None
    report, done = evaluate_served(run, artifact, checkpoint, run.at, run.key, title, True, own)
    _note_speed(run, run.key, done)
    return report


def describe(run: StageExecution, record: ServedEvaluationReport) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        **evaluation_shared.describe(run, record),
        "engine": record.engine,
        "size_mb": round(record.size_bytes / 1e6, 1),
        "token_parity": f"{record.parity_rows - record.parity_mismatches} of {record.parity_rows} rows",
    }
    if record.repeated is not None:
        found["answers_that_differ_when_repeated"] = f"{record.repeated.answers_differ} of {record.repeated.rows}"
        found |= {f"noise_{name}": figure_of(value) for name, value in record.repeated.metrics.items() if value}
    speed = run.ledger.find(speed_key(record.made_by.hardware, record.key))
    if isinstance(speed, ServedSpeed):
        for load in speed.load:
            clients = f"{load.clients}_client" + ("s" if load.clients > 1 else "")
            found[f"tokens_per_s_{clients}"] = figure_of(load.tokens_per_s)
            found[f"p95_latency_s_{clients}"] = figure_of(load.latency_p95_s)
            found[f"p50_first_token_s_{clients}"] = figure_of(load.first_token_p50_s)
            if load.memory_bytes is not None:
                found["memory_mb"] = round(load.memory_bytes / 1e6, 1)
            if load.gpu_memory_bytes is not None:
                found["gpu_memory_mb"] = round(load.gpu_memory_bytes / 1e6, 1)
        found["hardware"] = speed.hardware
    return found


def after(run: StageExecution, record: ServedEvaluationReport) -> None:
    run.resolved.records["served_evaluation_report"] = record
    measure_champion(run, "served_evaluation_report", _champion, like=record)
    judge_preferences(run, record)
    _measure_speeds(run, record)


def verdict(run: StageExecution, record: ServedEvaluationReport) -> Verdict:
    return verdict_on(run, "served_evaluation_report")


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "served_evaluation_report",
        make,
        describe,
        kinds={"llamacpp"},
        require=verdict_on,
        judge=verdict,
        after=after,
    )
