"""Sources of projects, as the tests read them."""

from pathlib import Path
from typing import Any

import pytest

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.config_diff import changes
from resources.project_source.revisions import ProjectRepository
from tests.support.projects import Project


def source_of(project: Project, home: Path, repository: str | None = None) -> ProjectRepository:
    watched = ProjectSource(name="zoo", repository=repository or str(project.remote))
    return ProjectRepository(watched, Settings(home=home, projects=(watched,)))


def shipped(project: Project, source: ProjectRepository, message: str, change: dict[str, Any] | None = None) -> str:
    sha = project.ship(message, change)
    source.git.fetch()
    return sha


def told(source: ProjectRepository, revision: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        source.at(revision)
    return error.value.problems


def changed_values(source: ProjectRepository, before: str, after: str) -> list[str]:
    return [c.value for c in changes(source.at(before).values, source.at(after).values)]
