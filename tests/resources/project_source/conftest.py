"""A source that has fetched."""

from pathlib import Path

import pytest

from resources.project_source.revisions import ProjectRepository
from tests.resources.project_source.sources import source_of
from tests.support.projects import Project


@pytest.fixture
def source(project: Project, tmp_path: Path) -> ProjectRepository:
    """A source that has fetched the project's first commit."""
    project.push()
    source = source_of(project, tmp_path / "home")
    source.git.fetch()
    return source
