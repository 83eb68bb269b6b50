"""Fixtures for all tests: the tiny base model and one real Git + DVC project, each made once for all workers; and
worlds that watch copies of that project.
"""

import gc
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.domain.chain import WORK
from llmops_assets.machine.forked import ForkServers
from resources.compute.preloading import PRELOADED
from tests.support.forking import Forking, used_together
from tests.support.projects import LIGHT, Outcome, Project, Watched, World
from tests.support.shared import once
from tests.support.tiny_model import make_tiny_gguf, tiny_model

pytest_plugins = ["tests.support.docker", "tests.support.github", "tests.support.ledgers"]

gc.disable()  # until all is collected: the collector would look again and again at modules, none of which it can free


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    collected = yield
    gc.freeze()
    gc.enable()
    return collected


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for this session. Under xdist it is in the common parent of the workers' base folders."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if own.name.startswith("popen-") else own) / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def shared_by_worlds(cache: Path) -> Iterator[None]:
    """One fork server for all programs, of worlds or not; the last test process ends it."""
    folder = cache / "preloaded"
    folder.mkdir(exist_ok=True)
    with (
        pytest.MonkeyPatch.context() as patch,
        used_together(ForkServers(folder, PRELOADED), cache / "preloaded.users"),
    ):
        patch.setattr(World, "cache", cache)
        patch.setattr(Forking, "folder", folder, raising=False)
        yield


@pytest.fixture(scope="session")
def base(cache: Path) -> Path:
    """The folder of a random base model."""
    return once(cache / "base", lambda: tiny_model(cache / "base"))


@pytest.fixture(scope="session")
def model_file(cache: Path) -> Path:
    """A random model as GGUF, made by our quantization program."""
    folder = cache / "gguf"
    return once(folder, lambda: make_tiny_gguf(folder)) / "tiny.gguf"


@pytest.fixture(scope="session")
def template_project(cache: Path, base: Path) -> Project:
    """A project with its first commit, pushed by DVC but not by Git. Copy it, never change it."""
    return Project(once(cache / "zoo", lambda: Project.create(cache / "zoo", "zoo", base)), "zoo")


@pytest.fixture(scope="session")
def computed(cache: Path, template_project: Project) -> Path:
    """A home that has computed the template's first commit, also with the light evaluation, without a release.

    For tests that start with a release in production and do not test how it got there: the results of their first
    push exist already.
    """

    def compute() -> None:
        project = template_project.copy_to(cache / "computed-project")
        project.push()
        world = World(cache / "computed", project)
        try:
            for change in ({}, LIGHT):
                if change:
                    project.ship("Light", change)
                world.source().git.fetch()
                result = world.materialize("zoo", *(stage.name for stage in WORK))
                assert result.success, Outcome.of(result).failures
        finally:
            world.down()
            world.ledger.engine.dispose()

    return once(cache / "computed", compute)


@pytest.fixture
def project(template_project: Project, tmp_path: Path) -> Project:
    """A copy of the template project for one test."""
    return template_project.copy_to(tmp_path / "zoo")


@pytest.fixture(scope="module")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., World]]:
    """Makes worlds, and ends all their processes afterwards."""
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
    """Makes copies of the template project, each with its own remotes."""

    def make() -> Project:
        root: Path = tmp_path_factory.mktemp("project") / "zoo"
        return template_project.copy_to(root)

    return make


@pytest.fixture
def watched(make_project: Callable[[], Project], make_world: Callable[..., World]) -> Watched:
    """A project that has not been pushed yet, and a world that watches it."""
    project = make_project()
    return Watched(project, make_world(project))
