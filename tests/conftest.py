"""What all tests share: the tiny base model and one real Git + DVC project, each made once however many workers run."""

from pathlib import Path

import pytest

from llmops_assets.machine.locks import alone
from tests.projects import Project, tiny_base


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session. Under xdist each worker has a base folder of its own, in one that they all share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if own.name.startswith("popen-") else own) / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def base(cache: Path) -> Path:
    """The folder of a random base model."""
    with alone(cache / "base.lock"):
        return tiny_base(cache)


@pytest.fixture(scope="session")
def template_project(cache: Path, base: Path) -> Project:
    """A project with its first commit, pushed by DVC but not by Git. To be copied, never changed."""
    root, complete = cache / "zoo", cache / "zoo.complete"
    with alone(cache / "zoo.lock"):
        if not complete.exists():
            Project.create(root, "zoo", base)
            complete.touch()
    return Project(root, "zoo")


@pytest.fixture
def project(template_project: Project, tmp_path: Path) -> Project:
    """A project of the test's own."""
    return template_project.copy_to(tmp_path / "zoo")
