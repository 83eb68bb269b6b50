"""Worlds for the tests of the whole chain: one template project per session, a world of its own per test module."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.projects import Project, World


@pytest.fixture(scope="session")
def zoo_template(template_project: Project) -> Project:
    return template_project


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
def make_project(zoo_template: Project, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Makes copies of the template project, each with remotes of its own."""

    def make() -> Project:
        root: Path = tmp_path_factory.mktemp("project") / "zoo"
        return zoo_template.copy_to(root)

    return make
