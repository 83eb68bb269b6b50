"""The job <project>_rollback in Dagster's launchpad, with typed config: what `llmops rollback` does at a terminal.

Who rolls back is what they say: Dagster's open source webserver knows no users, so this is no authentication. The
other decision that people take, on a release, is the config of the asset `release_approval` (`approval`).
"""

import dagster as dg
from pydantic import Field

from llmops_assets.assets.release_approval import BY
from llmops_assets.config.settings import ProjectSource
from llmops_assets.delivery.run_tags import PROJECT_TAG
from llmops_assets.jobs.rollback import CannotRollBack, roll_back
from resources.project_source.git_mirror import local_identity


class RollbackConfig(dg.Config):
    """Take production back to a release that it served before."""

    reason: str = Field(description="Why; kept in the ledger's audit trail.")
    to: str = Field(default="", description="Digest of the release; empty: the one that production served before.")
    by: str = BY


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
