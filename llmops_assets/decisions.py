"""What people decide in Dagster's launchpad: the jobs <project>_approve and <project>_rollback, with typed config.

The same functions stand behind `llmops approve`, `reject` and `rollback`. Who decides is what they say: Dagster's open
source webserver knows no users, so this is no authentication.
"""

from enum import Enum

import dagster as dg
from pydantic import Field

from llmops_assets.domain.keys import short
from llmops_assets.rollback import CannotRollBack, roll_back
from llmops_assets.settings import ProjectSource
from llmops_assets.tags import PROJECT_TAG, run_tags
from resources.approving import Refused, decide
from resources.git import local_identity
from resources.ledger import Conflict

BY = Field(
    default="",
    description="Your e-mail address, for the audit trail. Empty: LLMOPS_USER, else Git's user.email, of the machine "
    "that runs Dagster. Nobody verifies it.",
)


class Choice(Enum):
    approve = "approved"
    reject = "rejected"


class ApproveConfig(dg.Config):
    """A person's decision on a release that waits for one."""

    release: str = Field(description="Digest of the release, or its first 6 characters or more, as the check says it.")
    decision: Choice = Field(description="approve: it goes on into production. reject: it stays out, for good.")
    reason: str = Field(description="Why; kept in the ledger's audit trail.")
    by: str = BY


class RollbackConfig(dg.Config):
    """Take production back to a release that it served before."""

    reason: str = Field(description="Why; kept in the ledger's audit trail.")
    to: str = Field(default="", description="Digest of the release; empty: the one that production served before.")
    by: str = BY


def build_approve_job(project: ProjectSource) -> dg.JobDefinition:
    @dg.op(name=f"{project.group}_decide", required_resource_keys={"ledger", "sources"})
    def _decide(context: dg.OpExecutionContext, config: ApproveConfig) -> None:
        source = context.resources.sources(project)
        by = config.by.strip() or local_identity()
        try:
            done = decide(source, context.resources.ledger, config.decision.value, by, config.reason, config.release)
        except (Refused, Conflict) as error:
            raise dg.Failure(f"not decided: {error}", allow_retries=False) from None
        why = f"{done.decision.choice} by {done.decision.by}: {done.decision.reason}"
        context.instance.add_run_tags(context.run_id, run_tags(source, done.decision.revision, why))
        release = short(done.decision.ask.release)
        context.log.info(f"release {release} is {done.decision.choice} by {done.decision.by}")
        context.add_output_metadata({"release": release, "decision": done.decision.choice, "by": done.decision.by})

    @dg.job(
        name=f"{project.group}_approve",
        description=f"Approve or reject the release of {project.name} that waits for a person. The check `decided` of "
        "release_approval says which one does.",
        tags={PROJECT_TAG: project.name},
    )
    def _job() -> None:
        _decide()

    return _job


def rollback_job_name(project: ProjectSource) -> str:
    return f"{project.group}_rollback"


def build_rollback_job(project: ProjectSource) -> dg.JobDefinition:
    needs = {"settings", "ledger", "store", "serving", "tracking", "sources"}

    @dg.op(name=f"{project.group}_roll_back", required_resource_keys=needs)
    def _roll_back(context: dg.OpExecutionContext, config: RollbackConfig) -> None:
        by = config.by.strip() or local_identity()
        try:
            if not by or not config.reason.strip():
                raise CannotRollBack("a rollback needs a reason, and somebody who says it: `by`, or LLMOPS_USER")
            said = roll_back(context, project, config.to, config.reason.strip(), by)
        except CannotRollBack as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        context.log.info(said)
        context.add_output_metadata({"outcome": said})

    @dg.job(
        name=rollback_job_name(project),
        description=f"Take {project.name}'s production back to an earlier release, and hold the present one.",
        tags={PROJECT_TAG: project.name},
    )
    def _job() -> None:
        _roll_back()

    return _job
