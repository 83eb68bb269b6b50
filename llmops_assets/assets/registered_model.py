"""registered_model: one MLflow model version per checkpoint that passes its gates. Weights stay in the store.

Where `deployment.review` requires it, people accept the evaluation report first, also through Dagster's launchpad:
until then the model waits in the ledger. `llmops_assets.domain.report_review` validates their decisions.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from llmops_assets.assets.decision_config import (
    BY,
    CHOICES,
    REASON,
    DecisionConfig,
    LaunchpadDecision,
    record_decision,
)
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.gate_evidence import verdict_on
from llmops_assets.delivery.report_reviews import (
    call_for_review,
    decide_review,
    note_registration,
    review_state,
    to_review,
)
from llmops_assets.domain.approval import Choice
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Checkpoint, EvaluationReport, RegisteredModel
from llmops_assets.domain.verdict import Verdict
from llmops_assets.programs.models.config_files import read_model_config, read_tokenizer_config
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.base_model import base_of
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.mlflow_mirror import judged_page
from llmops_assets.stage.model_card import FILE, card_of
from llmops_assets.stage.rejections import AwaitingApproval
from resources.ledger import Ledger
from resources.model_registry.interface import CHECKPOINT_TAG
from resources.model_registry.mlflow import how_to_load, write_mlflow_model
from resources.project_source.revisions import ProjectRepository


class ReviewConfig(DecisionConfig):
    """Launchpad config of registered_model: a decision on the evaluation report that waits for review."""

    decision: LaunchpadDecision = Field(
        default=LaunchpadDecision.none,
        description="Decision on the evaluation report that waits for review. approve: its model is registered. "
        "reject: its request is closed and the model is not registered. none: this run decides nothing; earlier "
        "decisions apply.",
    )
    report: str = Field(
        default="",
        description="Digest of the evaluation report, or at least its first 6 characters, as shown by the check "
        "`accepted`. Required for a decision.",
    )
    reason: str = REASON
    by: str = BY

    def waiting_revision(self, source: ProjectRepository, ledger: Ledger) -> str:
        return to_review(source, ledger, self.report)[0]


def review(run: StageExecution) -> None:
    """Waits until people have accepted the evaluation report, where that is required.

    Raises:
        AwaitingApproval: too few people have accepted it now.
        Rejected: a person rejected it.
    """
    if isinstance(run.config, ReviewConfig) and (choice := CHOICES.get(run.config.decision)):
        _decide(run, run.config, choice)
    state = review_state(run.source, run.ledger, run.revision)
    if state.rejected:
        name = f"evaluation report of {short(run.revision)}"
        run.reject(Verdict(subject=name, report=None, champion=None, failures=state.rejected))
    if state.pending is not None:
        raise AwaitingApproval(call_for_review(state, run.revision), metadata=_pages(run))
    note_registration(run.ledger, run.revision, state)


def _decide(run: StageExecution, config: ReviewConfig, choice: Choice) -> None:
    def on_report(by: str) -> tuple[str, str]:
        decision = decide_review(run.source, run.ledger, choice, by, config.reason, config.report).decision
        return f"evaluation report {short(decision.ask.report)}", f"{choice} by {decision.by}: {decision.reason}"

    record_decision(run, config, choice, on_report)


def _pages(run: StageExecution) -> dict[str, dg.MetadataValue]:
    """The command that prints the report, its page with the verdict, and what a reviewer looks at first."""
    record = run.record(EvaluationReport, "evaluation_report")
    page = judged_page(run, record, verdict_on(run, "evaluation_report"))
    return {
        "command": dg.MetadataValue.text(f"llmops review {run.project.name} {short(run.revision)}"),
        **({"report": dg.MetadataValue.url(page.url)} if page.url else {}),
        **({"review": dg.MetadataValue.md(page.summary)} if page.summary else {}),
    }


def make(run: StageExecution) -> RegisteredModel:
    checkpoint = run.record(Checkpoint, "fine_tuned_checkpoint")
    base, weights = base_of(run, checkpoint), run.fetch(checkpoint)
    with tempfile.TemporaryDirectory(prefix="llmops-model-") as scratch:
        folder = Path(scratch) / "model"
        write_mlflow_model(
            folder,
            base=base,
            checkpoint=weights,
            method=checkpoint.method,
            architecture=read_model_config(base)["architectures"][0],
            tokenizer_class=_tokenizer_class(weights),
            run_id=checkpoint.mlflow_run_id,
            metadata={"checkpoint": checkpoint.digest, "base": checkpoint.base, "commit": run.revision},
        )
        (folder / FILE).write_text(card_of(run, checkpoint), encoding="utf-8")
        artifact = run.store.put(folder)
    name = run.project.name
    remote = () if run.store.is_local else (checkpoint.base_uri, checkpoint.uri)
    version = run.registry.register(
        name,
        artifact.uri,
        checkpoint.mlflow_run_id,
        {CHECKPOINT_TAG: checkpoint.digest, "llmops.commit": run.revision},
        f"{run.note}\n\n{how_to_load(name, base, weights, remote)}",
    )
    return RegisteredModel(
        **run.header,
        name=name,
        version=version,
        model_uri=f"models:/{name}/{version}",
        uri=artifact.uri,
        checkpoint_digest=checkpoint.digest,
    )


def _tokenizer_class(folder: Path) -> str:
    return str(read_tokenizer_config(folder).get("tokenizer_class", "PreTrainedTokenizerFast"))


def describe(run: StageExecution, record: RegisteredModel) -> Mapping[str, Any]:
    url = run.registry.model_url(record.name, record.version)
    return {
        "version": record.version,
        "model_uri": record.model_uri,
        "checkpoint": short(record.checkpoint_digest),
        **({"mlflow_model": dg.MetadataValue.url(url)} if url else {}),
    }


def verdict(run: StageExecution, record: RegisteredModel) -> Verdict:
    state = review_state(run.source, run.ledger, run.revision)
    reasons = [f"{record.name} version {record.version} is registered"]
    reasons += [] if state.rules else ["deployment.review is not required"]
    subject = f"registered_model of {short(run.revision)}"
    return state.added_to(Verdict(subject=subject, report=record.key, champion=None, reasons=tuple(reasons)))


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "registered_model",
        make,
        describe,
        kinds={"mlflow"},
        judge=verdict,
        require=verdict_on,
        before=review,
        waits=True,
        config_type=ReviewConfig,
    )
