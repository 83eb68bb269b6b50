"""release_approval: records who approved the release: a rule or a person, also through Dagster's launchpad.

`llmops_assets.domain.approval` validates decisions; `llmops_assets.stage` and the sensors make a release wait and
resume it. Names are not authenticated: Dagster's open source webserver has no users.
"""

from collections.abc import Mapping
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
from llmops_assets.delivery.approvals import call_for, current_ask, decide, evaluate_current_approval, subject
from llmops_assets.delivery.gate_evidence import release_now, verdict_on
from llmops_assets.delivery.release_policy import release_policy
from llmops_assets.domain.approval import Choice, Waiting
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import ReleaseApproval
from llmops_assets.domain.verdict import Verdict
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.rejections import AwaitingApproval
from resources.ledger import Ledger
from resources.project_source.revisions import ProjectRepository


class ApprovalConfig(DecisionConfig):
    """Launchpad config of release_approval: a decision on the waiting release."""

    decision: LaunchpadDecision = Field(
        default=LaunchpadDecision.none,
        description="Decision on the waiting release. approve: it proceeds to production. reject: its request is "
        "closed and it is not released. none: this run decides nothing; earlier decisions apply.",
    )
    release: str = Field(
        default="",
        description="Digest of the release, or at least its first 6 characters, as shown by the check `decided`. "
        "Required for a decision.",
    )
    reason: str = REASON
    by: str = BY

    def waiting_revision(self, source: ProjectRepository, ledger: Ledger) -> str:
        return subject(source, ledger)[0]


def _decide(run: StageExecution, config: ApprovalConfig, choice: Choice) -> None:
    """Records a decision on the waiting release.

    Raises:
        AwaitingApproval: the decision is a rejection, so production must not proceed.
    """

    def on_release(by: str) -> tuple[str, str]:
        decision = decide(run.source, run.ledger, choice, by, config.reason, config.release).decision
        return f"release {short(decision.ask.release)}", f"{choice} by {decision.by}: {decision.reason}"

    record_decision(run, config, choice, on_release)


def make_approval(run: StageExecution) -> ReleaseApproval:
    """Records who approved the release, or waits for an approval.

    Raises:
        AwaitingApproval: approval is required, and there is no valid one now.
    """
    if isinstance(run.config, ApprovalConfig) and (choice := CHOICES.get(run.config.decision)):
        _decide(run, run.config, choice)
    release = release_now(run)
    ask = current_ask(run.source, run.ledger, run.revision)
    if ask is None:
        raise dg.Failure(f"the reports on release {short(release.digest)} do not exist yet", allow_retries=False)
    serves = ask.replaces == ask.release
    policy = release_policy(run.source, run.ledger, run.revision)
    reason = "production already serves this release" if serves else "deployment.approval is not required"
    said: dict[str, Any] = {"decision": "automatic", "by": "llmops.yaml", "reason": reason}
    # A revision of the same release that loosens its policy needs a person too: its policy would become the champion's.
    if policy.needed and (not serves or policy.guarded):
        found = evaluate_current_approval(run.source, run.ledger, run.revision)
        if isinstance(found, Waiting) and found.rejected:
            subject_of = f"release {short(ask.release)}"
            run.reject(Verdict(subject=subject_of, report=None, champion=ask.replaces, failures=found.reasons))
        if isinstance(found, Waiting):
            raise AwaitingApproval(call_for(ask, found, policy.because))
        said = {"decision": "approved", "by": found.decision.by, "reason": found.decision.reason}
    return ReleaseApproval(
        **run.header,
        **said,
        release=ask.release,
        environment=ask.environment,
        replaces=ask.replaces,
        reports=ask.reports,
    )


def describe_approval(run: StageExecution, record: ReleaseApproval) -> Mapping[str, Any]:
    return {
        "release": short(record.release),
        "decision": record.decision,
        "by": record.by,
        "reason": record.reason,
        "replaces": short(record.replaces) if record.replaces else "nothing",
        **({"loosened": loosened} if (loosened := _loosened(run)) else {}),
    }


def _loosened(run: StageExecution) -> str:
    return "; ".join(release_policy(run.source, run.ledger, run.revision).loosened)


def verdict_approval(run: StageExecution, record: ReleaseApproval) -> Verdict:
    reason = f"{record.decision} by {record.by}: {record.reason}"
    subject = f"release {short(record.release)}"
    return Verdict(subject=subject, report=record.key, champion=record.replaces, reasons=(reason,))


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "release_approval",
        make_approval,
        describe_approval,
        kinds={"policy"},
        judge=verdict_approval,
        require=verdict_on,
        waits=True,
        config_type=ApprovalConfig,
    )
