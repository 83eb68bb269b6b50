"""What a person may set in Dagster's launchpad, per kind of stage."""

import dagster as dg
from pydantic import Field

from resources.ledger import Ledger
from resources.project_source.revisions import ProjectRepository


class StageConfig(dg.Config):
    """Config of a stage in Dagster's launchpad. All other runs use the defaults."""

    revision: str = Field(
        default="",
        description="Commit, tag or branch to work on. Empty: the run's own revision, or the head of the watched "
        "branch, pinned once for the whole run.",
    )

    def default_revision(self, source: ProjectRepository, ledger: Ledger) -> str:
        """The revision for an empty `revision`; empty: the head of the branch."""
        return ""


class DeployConfig(StageConfig):
    """Config of the stage that moves production's traffic."""

    deploy_older: bool = Field(default=False, description="Deploy even though a newer commit has been planned since.")


class EvaluationConfig(StageConfig):
    """Config of the stage that evaluates checkpoints."""

    model: str = Field(
        default="",
        description="Evaluate this registered model too, on this revision's test rows and metrics: its release, the "
        "commit that made it, or its version in the registry. The report is committed beside the revision's own.",
    )
