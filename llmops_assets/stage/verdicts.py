"""A verdict is an event: the ledger has it once it was evaluated, and Dagster shows it as a check of what was judged.

`domain.gate` judges. `delivery.asset_events` shows the verdicts on results that a commit reuses without a run.
"""

from collections.abc import Callable, Mapping

import dagster as dg

from llmops_assets.delivery.asset_events import MaterializationHistory
from llmops_assets.delivery.materializations import VERSION
from llmops_assets.delivery.verdict_checks import check_fields
from llmops_assets.domain.chain import CHECKS, EVIDENCE_CHECK, STAGES
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Measured, Record
from llmops_assets.domain.verdict import Verdict, combined
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.mlflow_mirror import JudgedPage, judged_page

Require = Callable[[StageExecution, str], Verdict]
"""(execution, required stage) → the verdict on its record now."""


def judge_required(run: StageExecution, require: Require | None) -> tuple[dict[str, Verdict], Verdict | None]:
    """Every verdict that this stage requires, by stage, and the combined one; None if it requires nothing."""
    judged: dict[str, Verdict] = {}
    for stage in run.stage.judged:
        assert require is not None, f"{run.stage.name} requires {stage} but has no `require`"
        judged[stage] = note(run, stage, require(run, stage))
    if not judged:
        return judged, None
    subject = f"the evidence for {run.stage.name} of {short(run.revision)}"
    return judged, note(run, run.stage.name, combined(subject, run.key, judged), EVIDENCE_CHECK)


def note(run: StageExecution, judged: str, verdict: Verdict, check: str | None = None) -> Verdict:
    """Adds a verdict to the ledger; returns it with the name of the asset check that shows it."""
    check = check or CHECKS.get(judged)
    named = verdict.model_copy(update={"check": f"{judged}:{check}" if check else ""})
    run.ledger.add_verdict(run.project.name, run.revision, run.stage.name, named)
    return named


def show_judged(run: StageExecution, verdicts: Mapping[str, Verdict], pages: bool) -> None:
    """Shows the verdicts that this stage acted on as checks of the assets that it judged.

    Only if an asset's page shows the judged record: someone may deploy an older revision by hand.

    Args:
        pages: whether to also write the reports with these verdicts.
    """
    history = MaterializationHistory(run.context.instance, run.project.name)
    for stage, verdict in verdicts.items():
        record = _judged(run, stage)
        if stage not in CHECKS or record is None or history.tags(stage).get(VERSION) != record.key:
            continue
        page = judged_page(run, record, verdict) if pages and isinstance(record, Measured) else JudgedPage()
        run.context.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey([run.project.name, stage]),
                check_name=CHECKS[stage],
                **check_fields(run.source, run.revision, verdict, run.stage.name, *page),
            )
        )


def check_result(
    run: StageExecution, check: str, verdict: Verdict, record: Record | None = None
) -> dg.AssetCheckResult:
    """The result of a check of this stage's own asset; with a page if it is about a measurement."""
    page = judged_page(run, record, verdict) if isinstance(record, Measured) else JudgedPage()
    return dg.AssetCheckResult(
        check_name=check,
        asset_key=dg.AssetKey([run.project.name, run.stage.name]),
        **check_fields(run.source, run.revision, verdict, run.stage.name, *page),
    )


def _judged(run: StageExecution, stage: str) -> Record | None:
    if stage not in STAGES:
        return None  # the policy has no record
    if STAGES[stage].kind == "work":
        return run.resolved.records.get(stage)
    return run.ledger.records_of(run.project.name, run.revision).get(stage)
