"""The Dagster job that rolls production back, started from the launchpad or by `llmops rollback`.

The rollback itself is in `llmops_assets.delivery.rollback`.
"""

import dagster as dg
from pydantic import Field

from llmops_assets.assets.release_approval import BY
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.rollback import CannotRollBack, Rollback
from llmops_assets.delivery.run_tags import PROJECT_TAG
from llmops_assets.machine.redaction import without_secrets
from resources.assembly import RESOURCE_KEYS, Clients
from resources.project_source.identity import local_identity


class RollbackConfig(dg.Config):
    """Roll production back to an earlier release."""

    reason: str = Field(description="Why; kept in the ledger's audit trail.")
    to: str = Field(default="", description="Digest of the release; empty: the previous release.")
    by: str = BY


def rollback_job_name(project: ProjectSource) -> str:
    return f"{project.group}_rollback"


def build_rollback_job(project: ProjectSource) -> dg.JobDefinition:
    @dg.op(name=f"{project.group}_roll_back", required_resource_keys=set(RESOURCE_KEYS))
    def _roll_back(context: dg.OpExecutionContext, config: RollbackConfig) -> None:
        by = config.by.strip() or local_identity()
        try:
            if not by or not config.reason.strip():
                raise CannotRollBack("a rollback needs a reason and a name: set `reason`, and `by` or LLMOPS_USER")
            rollback = Rollback(context, Clients.of(context.resources), project, config.reason.strip(), by)
            with without_secrets():
                said = rollback.run(config.to)
        except CannotRollBack as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        context.log.info(said)
        context.add_output_metadata({"outcome": said})

    @dg.job(
        name=rollback_job_name(project),
        description=f"Roll {project.name}'s production back to an earlier release, and hold the current one.",
        tags={PROJECT_TAG: project.name},
    )
    def _job() -> None:
        _roll_back()

    return _job
