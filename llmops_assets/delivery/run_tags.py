"""Which change a run or a materialization is of, as Dagster shows it: tags, by which people find it, and metadata."""

from typing import Any

import dagster as dg

from llmops_assets.domain.keys import short
from resources.project_source.revisions import ProjectRepository

REVISION_TAG = "llmops/revision"
REQUEST_TAG = "llmops/request"
PROJECT_TAG = "llmops/project"
COMMIT_TAG = "llmops/commit"
WHY_TAG = "llmops/why"


def about_commit(source: ProjectRepository, revision: str) -> dict[str, Any]:
    """Which change a materialization is of, as metadata; with a link where the repository has pages."""
    page = source.project.commit_page(revision)
    return {
        "commit": revision,
        "subject": source.git.message(revision),
        "author": source.git.author(revision),
        **({"commit_page": dg.MetadataValue.url(page)} if page else {}),
    }


def run_tags(source: ProjectRepository, revision: str, why: str | None = None) -> dict[str, str]:
    """By these a person finds a run in Dagster's list, and sees what it is for."""
    return {
        PROJECT_TAG: source.project.name,
        REVISION_TAG: revision,
        COMMIT_TAG: f"{short(revision)} {source.git.message(revision)}",
        **({WHY_TAG: why} if why else {}),
    }
