"""Mirrors the ledger in MLflow: outcomes of evaluations and model versions, aliases, and reports with their verdict.

MLflow is a view that people read. Nothing reads it to decide, so a fault of MLflow never fails a stage: it is
reported, and the next outcome of the project brings the aliases up to date.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmops_assets.delivery.gate_evidence import champion_now, current_release
from llmops_assets.delivery.rollout import move_alias
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Measured, RegisteredModel
from llmops_assets.domain.requests import Status
from llmops_assets.domain.verdict import Verdict
from llmops_assets.programs.evaluation.regressions import Regressions, regressions
from llmops_assets.programs.evaluation.report import MEASUREMENT, PAGE, Judgement, Measurement, render
from llmops_assets.stage.execution import StageExecution
from resources.model_registry.interface import CHAMPION, STAGING
from resources.tracking.mlflow import COMMIT_TAG, OUTCOME_TAG, RELEASE_TAG


def judged_page(run: StageExecution, record: Measured, verdict: Verdict) -> str | None:
    """Writes the report with this verdict and its comparison to the evaluation's MLflow run; returns its address."""
    with _reported(run):
        mlflow_run = run.tracking.find(run.project.name, record.key)
        if not mlflow_run:
            return None
        stored = run.store.fetch(record.uri)
        measurement = Measurement.model_validate_json((stored / MEASUREMENT).read_text(encoding="utf-8"))
        champion = champion_now(run)
        beside = champion.report(run, record.stage, record) if champion else None
        other = run.store.fetch(beside.uri) if beside is not None and beside.key != record.key else None
        changed = regressions(stored, other, record.metrics) if other is not None else None
        name = f"verdicts/{run.stage.name}-{short(run.revision)}-{run.run_id[:8]}"
        with tempfile.TemporaryDirectory() as scratch:
            page = Path(scratch) / PAGE
            page.write_text(render(measurement, _judgement(verdict, changed)), encoding="utf-8")
            run.tracking.log_report(mlflow_run, page, name)
        return run.tracking.report_url(run.project.name, mlflow_run, name)
    return None


def _judgement(verdict: Verdict, changed: Regressions | None) -> Judgement:
    others = {
        name: {f.metric: value for f in verdict.figures if (value := getattr(f, name)) is not None}
        for name in ("champion", "unquantized")
    }
    return Judgement(
        subject=verdict.subject,
        outcome=verdict.outcome,
        failures=verdict.against,
        reasons=(*verdict.reasons, *verdict.skipped, *verdict.warnings),
        others=others,
        regressions=changed,
    )


def mirror_outcome(run: StageExecution, outcome: Status) -> None:
    """Tags this revision's evaluations and model version with the outcome, and moves the aliases to what is served."""
    with _reported(run):
        release = current_release(run)
        tags = {COMMIT_TAG: run.revision, OUTCOME_TAG: outcome, **({RELEASE_TAG: release.digest} if release else {})}
        for stage in ("evaluation_report", "served_evaluation_report"):
            record = run.resolved.records.get(stage)
            mlflow_run = run.tracking.find(run.project.name, record.key) if record else ""
            if mlflow_run and _belongs(run, outcome, run.tracking.tags(mlflow_run)):
                run.tracking.tag(mlflow_run, tags)
        model = run.resolved.records.get("registered_model")
        if isinstance(model, RegisteredModel):
            name, version = model.name, model.version
            if _belongs(run, outcome, run.registry.tags(name, version)):
                run.registry.tag(name, version, tags)
        for environment, alias in (("production", CHAMPION), ("staging", STAGING)):
            if serving := run.ledger.serving(run.project.name, environment):
                move_alias(run.registry, alias, run.ledger.records_of(run.project.name, serving.revision))


def _belongs(run: StageExecution, outcome: Status, tags: dict[str, str]) -> bool:
    """Whether the outcome may replace these tags: that of a release that served production stays."""
    before = tags.get(RELEASE_TAG)
    return outcome == "released" or before is None or not run.ledger.has_served(run.project.name, before)


@contextmanager
def _reported(run: StageExecution) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        run.log.warning(f"MLflow does not show this yet: {type(error).__name__}: {str(error)[:500]}")
