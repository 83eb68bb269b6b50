"""What all tests share: the tiny base model and one real Git + DVC project, each made once however many workers run;
and worlds that watch copies of that project.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.machine.locks import alone
from tests.support.projects import Project, World, tiny_base

pytest_plugins = ["tests.support.ledgers"]


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


@pytest.fixture(scope="module")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., World]]:
    """Makes worlds, and ends every process of theirs."""
    made: list[World] = []

    def make(*projects: Project, **settings: Any) -> World:
        world = World(tmp_path_factory.mktemp("home"), *projects, **settings)
        made.append(world)
        return world

    yield make
    for world in made:
        world.down()


@pytest.fixture(scope="module")
def make_project(template_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Makes copies of the template project, each with remotes of its own."""

    def make() -> Project:
        root: Path = tmp_path_factory.mktemp("project") / "zoo"
        return template_project.copy_to(root)

    return make
