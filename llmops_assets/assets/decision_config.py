"""Launchpad config of the assets that people decide by, and how such a decision is recorded.

`release_approval` decides on releases, `registered_model` on evaluation reports, `ci_report` on budgets. Names are not
authenticated: Dagster's open source webserver has no users.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum

import dagster as dg
from pydantic import Field

from llmops_assets.delivery.approvals import Refused
from llmops_assets.delivery.run_tags import run_tags
from llmops_assets.domain.approval import Choice
from llmops_assets.domain.keys import short
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.launch_config import StageConfig
from llmops_assets.stage.rejections import AwaitingApproval
from resources.ledger import Conflict, Ledger
from resources.project_source.identity import local_identity
from resources.project_source.revisions import ProjectRepository

REASON = Field(default="", description="Why; kept in the ledger's audit trail. Required for a decision.")
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


class DecisionConfig(StageConfig):
    """A decision; its fields are redeclared where they are used, in the order of the launchpad's form."""

    # Not optional: the launchpad shows only fields with a default other than null.
    decision: LaunchpadDecision = Field(default=LaunchpadDecision.none)
    reason: str = REASON
    by: str = BY

    @abstractmethod
    def waiting_revision(self, source: ProjectRepository, ledger: Ledger) -> str:
        """The revision that the decision is about.

        Raises:
            Refused: nothing waits for it.
        """

    def default_revision(self, source: ProjectRepository, ledger: Ledger) -> str:
        """A decision applies to what waits, which need not be the head of the branch."""
        if self.decision is LaunchpadDecision.none:
            return ""
        try:
            return self.waiting_revision(source, ledger)
        except Refused as error:
            raise dg.Failure(f"decision refused: {error}", allow_retries=False) from None


def record_decision(
    run: StageExecution, config: DecisionConfig, choice: Choice, decide: Callable[[str], tuple[str, str]]
) -> None:
    """Records a decision, like `llmops approve` and `llmops reject`.

    Args:
        decide: who decides → (what was decided on, the decision with its reason), once it is in the ledger.

    Raises:
        AwaitingApproval: the decision is a rejection, so the stage must not act.
    """
    try:
        if run.context.run.parent_run_id:
            raise Refused(
                "a re-executed run repeats no decision, because the evidence may have changed; decide in the launchpad"
            )
        waits = config.waiting_revision(run.source, run.ledger)
        if waits != run.revision:
            raise Refused(f"{short(waits)} waits for it, not {short(run.revision)}; leave `revision` empty")
        subject, said = decide(config.by.strip() or local_identity())
    except (Refused, Conflict) as error:
        raise dg.Failure(f"decision refused: {error}", allow_retries=False) from None
    run.context.instance.add_run_tags(run.run_id, run_tags(run.source, run.revision, said))
    run.log.info(f"{subject} is {said}")
    if choice == "rejected":
        raise AwaitingApproval(said, "rejected")
