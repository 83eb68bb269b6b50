"""release_approval: records who approved the release: a rule or a person, also through Dagster's launchpad.

`llmops_assets.domain.approval` validates decisions; `llmops_assets.stage` and the sensors make a release wait and
resume it. Names are not authenticated: Dagster's open source webserver has no users.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

import dagster as dg
from pydantic import Field

from llmops_assets.config.settings import ProjectSource, Settings
from llmops_assets.delivery.approvals import Refused, call_for, current_ask, decide, evaluate_current_approval, subject
from llmops_assets.delivery.gate_evidence import release_now, verdict_on
from llmops_assets.delivery.release_policy import release_policy
from llmops_assets.delivery.run_tags import run_tags
from llmops_assets.domain.approval import Choice, Waiting
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import ReleaseApproval
from llmops_assets.domain.verdict import Verdict
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import AwaitingApproval, StageConfig, StageExecution
from resources.ledger import Conflict, Ledger
from resources.project_source.identity import local_identity
from resources.project_source.revisions import ProjectRepository

BY = Field(
    default="",
    description="Your e-mail address, for the audit trail. Empty: LLMOPS_USER, otherwise Git's user.email, of the "
    "machine that runs Dagster. It is not verified.",
)


class LaunchpadDecision(Enum):
    none = "none"
    approve = "approve"
    reject = "reject"


CHOICES: Mapping[LaunchpadDecision, Choice] = {
    LaunchpadDecision.approve: "approved",
    LaunchpadDecision.reject: "rejected",
}


class ApprovalConfig(StageConfig):
    """Launchpad config of release_approval: a decision on the waiting release."""

    # Not optional: the launchpad shows only fields with a default other than null.
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
    reason: str = Field(default="", description="Why; kept in the ledger's audit trail. Required for a decision.")
    by: str = BY

    def default_revision(self, source: ProjectRepository, ledger: Ledger) -> str:
        """A decision applies to the waiting release, which need not be the head of the branch."""
        if self.decision is LaunchpadDecision.none:
            return ""
        try:
            return subject(source, ledger)[0]
        except Refused as error:
            raise dg.Failure(f"decision refused: {error}", allow_retries=False) from None


def _decide(run: StageExecution, config: ApprovalConfig, choice: Choice) -> None:
    """Records a decision, like `llmops approve` and `llmops reject`.

    Raises:
        AwaitingApproval: the decision is a rejection, so production must not proceed.
    """
    by = config.by.strip() or local_identity()
    try:
        if run.context.run.parent_run_id:
            raise Refused(
                "a re-executed run repeats no decision, because the evidence may have changed; decide in the launchpad"
            )
        waits, _ = subject(run.source, run.ledger)
        if waits != run.revision:
            raise Refused(f"{short(waits)} waits for approval, not {short(run.revision)}; leave `revision` empty")
        done = decide(run.source, run.ledger, choice, by, config.reason, config.release)
    except (Refused, Conflict) as error:
        raise dg.Failure(f"decision refused: {error}", allow_retries=False) from None
    said = f"{done.decision.choice} by {done.decision.by}: {done.decision.reason}"
    run.context.instance.add_run_tags(run.run_id, run_tags(run.source, run.revision, said))
    run.log.info(f"release {short(done.decision.ask.release)} is {said}")
    if choice == "rejected":
        raise AwaitingApproval(said, "rejected")


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
