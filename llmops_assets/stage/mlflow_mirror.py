"""Mirrors the ledger in MLflow: outcomes of evaluations and model versions, aliases, and reports with their verdict.

MLflow is a view that people read. Nothing reads it to decide, so a fault of MLflow never fails a stage: it is
reported, and the next outcome of the project brings the aliases up to date.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from llmops_assets.delivery.gate_evidence import current_release
from llmops_assets.delivery.review import review_of
from llmops_assets.delivery.rollout import move_alias
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Measured, RegisteredModel
from llmops_assets.domain.requests import Status
from llmops_assets.domain.review import FILE, REGRESSIONS, Link
from llmops_assets.domain.review_markdown import markdown
from llmops_assets.domain.verdict import Verdict
from llmops_assets.programs.evaluation.regressions import write_regressions
from llmops_assets.programs.evaluation.report import MEASUREMENT, PAGE, Measurement, render
from llmops_assets.stage.execution import StageExecution
from resources.model_registry.interface import CHAMPION, STAGING
from resources.tracking.mlflow import COLLECTED_TAG, COMMIT_TAG, OUTCOME_TAG, RELEASE_TAG, WAITS_TAG


class JudgedPage(NamedTuple):
    """What shows a verdict: the address of its page, and its review as Markdown; None as far as they cannot be made."""

    url: str | None = None
    summary: str | None = None


def judged_page(run: StageExecution, record: Measured, verdict: Verdict) -> JudgedPage:
    """Writes the report with this verdict, its comparison and its review to the evaluation's MLflow run.

    Beside the page, review.json has the same for programs, and regressions.jsonl the rows lost and won.
    """
    summary: str | None = None
    with _reported(run):
        mlflow_run = run.tracking.find(run.project.name, record.key)
        review, changed = review_of(run, record, verdict, _links(run, mlflow_run))
        summary = markdown(review)
        if not mlflow_run:
            return JudgedPage(summary=summary)
        stored = run.store.fetch(record.uri)
        measurement = Measurement.model_validate_json((stored / MEASUREMENT).read_text(encoding="utf-8"))
        name = f"verdicts/{run.stage.name}-{short(run.revision)}-{run.run_id[:8]}"
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / PAGE).write_text(render(measurement, review), encoding="utf-8")
            (folder / FILE).write_text(review.model_dump_json(indent=1), encoding="utf-8")
            write_regressions(folder / REGRESSIONS, changed)
            for file in (PAGE, FILE, REGRESSIONS):
                run.tracking.log_report(mlflow_run, folder / file, name)
        return JudgedPage(run.tracking.report_url(run.project.name, mlflow_run, name), summary)
    return JudgedPage(summary=summary)


def _links(run: StageExecution, mlflow_run: str) -> Iterator[Link]:
    if mlflow_run and (url := run.tracking.run_url(run.project.name, mlflow_run)):
        yield Link(name="MLflow run", url=url)
    staged = run.ledger.serving(run.project.name, "staging")
    if staged is not None:
        release = current_release(run)
        own = release is not None and release.digest == staged.release
        what = "serves this release" if own else f"serves another release, {short(staged.release)}"
        yield Link(name=f"staging ({what})", url=run.serving.base_url(run.project.name, "staging"))


def mirror_outcome(run: StageExecution, outcome: Status, waits_for: str = "") -> None:
    """Tags this revision's evaluations and model version with the outcome, and moves the aliases to what is served.

    Args:
        waits_for: what it waits for and how to decide, where the outcome is waiting.
    """
    with _reported(run):
        release = current_release(run)
        tags = {COMMIT_TAG: run.revision, OUTCOME_TAG: outcome, **({RELEASE_TAG: release.digest} if release else {})}
        for stage in ("evaluation_report", "served_evaluation_report"):
            record = run.resolved.records.get(stage)
            mlflow_run = run.tracking.find(run.project.name, record.key) if record else ""
            before = run.tracking.tags(mlflow_run) if mlflow_run else {}
            if mlflow_run and _belongs(run, outcome, before):
                run.tracking.tag(mlflow_run, tags | _waiting(outcome, waits_for, before))
        model = run.resolved.records.get("registered_model")
        if isinstance(model, RegisteredModel):
            name, version = model.name, model.version
            before = run.registry.tags(name, version)
            if _belongs(run, outcome, before):
                run.registry.tag(name, version, tags | _waiting(outcome, waits_for, before))
            if before.get(COLLECTED_TAG) and "fine_tuned_checkpoint" in run.resolved.records:
                run.registry.tag(name, version, {COLLECTED_TAG: ""})  # its weights were made again
        for environment, alias in (("production", CHAMPION), ("staging", STAGING)):
            if serving := run.ledger.serving(run.project.name, environment):
                move_alias(run.registry, alias, run.ledger.records_of(run.project.name, serving.revision))


def _waiting(outcome: Status, waits_for: str, before: dict[str, str]) -> dict[str, str]:
    """The tag that says what it waits for; afterwards it is empty."""
    if outcome == "waiting":
        return {WAITS_TAG: waits_for}
    return {WAITS_TAG: ""} if before.get(WAITS_TAG) else {}


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
