"""container_image without an image: its record says why, and no program is started."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_assets.domain.records import ContainerImage
from llmops_assets.domain.verdict import Verdict
from tests.support.projects import Outcome, Project, Watched, World


@pytest.fixture(scope="module")
def case(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> Iterator[Watched]:
    project = make_project()
    project.configure({"ci": {"tests": False, "ruff": False, "secrets": False, "types": False}})
    project.ship("First")
    yield Watched(project, make_world(project, computed=computed))


def made(case: Watched) -> tuple[ContainerImage, Outcome, Verdict]:
    """The record of the newest commit, the run, and the verdict as the chain judges it."""
    case.world.source().git.fetch()
    outcome = Outcome.of(case.world.materialize("zoo", "ci_report", "container_image"))
    record = case.world.ledger.records_of("zoo", case.project.head)["container_image"]
    assert isinstance(record, ContainerImage)
    return record, outcome, case.world.ledger.verdicts("zoo", case.project.head)[-1][1]


def test_a_project_without_a_dockerfile_gets_a_record_that_says_so(case: Watched) -> None:
    record, outcome, verdict = made(case)
    assert outcome.failures == "" and (record.without, record.reference) == ("no Dockerfile", "")
    assert verdict.passed and verdict.reasons == ("no image: no Dockerfile",)
    assert record.made_by.program_seconds == 0.0, "no program was started"
    assert not list((case.world.home / "jobs").glob("image-*"))


def test_an_installation_that_builds_no_images_says_so_too(case: Watched) -> None:
    case.project.write("Dockerfile", "FROM scratch\n")
    case.project.ship("A Dockerfile")
    record, outcome, _ = made(case)
    assert outcome.failures == "" and record.without.startswith("this installation builds no images")
    case.project.ship("Not for us", {"image": {"build": False}})
    assert made(case)[0].without == "image.build is false"


def test_a_dockerfile_that_is_named_must_exist(case: Watched) -> None:
    case.project.ship("Which one?", {"image": {"build": None, "dockerfile": "docker/Train.Dockerfile"}})
    case.world.source().git.fetch()
    skip = case.skip()
    assert "llmops.yaml: image.dockerfile: there is no docker/Train.Dockerfile in Git" in skip, skip
