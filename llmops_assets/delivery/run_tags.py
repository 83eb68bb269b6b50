"""Tags and metadata that show in Dagster which change a run or materialization belongs to."""

from typing import Any

import dagster as dg

from llmops_assets.domain.keys import short
from resources.project_source.revisions import ProjectRepository

REVISION_TAG = "llmops/revision"
REQUEST_TAG = "llmops/request"
PROJECT_TAG = "llmops/project"
COMMIT_TAG = "llmops/commit"
WHY_TAG = "llmops/why"
STAGES_TAG = "llmops/only"
"""The stages that a person asked for, of a run that is not of the whole chain."""
MODEL_TAG = "llmops/model"
"""The registered model that a person had evaluated on this revision's rows."""
OUTCOME_TAG = "llmops/outcome"
"""What became of a run's request, as the ledger has it: released, rejected, waiting, … A rejection is no failure."""


def about_commit(source: ProjectRepository, revision: str) -> dict[str, Any]:
    """A materialization's commit as metadata; with a link if the repository has a web page."""
    page = source.project.commit_page(revision)
    return {
        "commit": revision,
        "subject": source.git.message(revision),
        "author": source.git.author(revision),
        **({"commit_page": dg.MetadataValue.url(page)} if page else {}),
    }


def run_tags(source: ProjectRepository, revision: str, why: str | None = None) -> dict[str, str]:
    """Tags that identify a run in Dagster's list of runs and say why it exists."""
    return {
        PROJECT_TAG: source.project.name,
        REVISION_TAG: revision,
        COMMIT_TAG: f"{short(revision)} {source.git.message(revision)}",
        **({WHY_TAG: why} if why else {}),
    }
