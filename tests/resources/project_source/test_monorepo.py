"""Several projects in folders of one repository: each sees its own folder only. Real Git, real DVC."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.domain.records import CiReport, DatasetVersion
from tests.support.projects import Outcome, Project, World

SHARED, OWN = "models/shared", "own"
"""Folders of projects: one below the repository's DVC root, and one that is a DVC root of its own."""


class Monorepo:
    """The template, moved into two folders of its repository, and the world that watches both."""

    def __init__(self, project: Project, make_world: Callable[..., World]):
        self.project = project
        for folder in (SHARED, OWN):
            (project.folder / folder).mkdir(parents=True)
        for name in ("llmops.yaml", "prompts", "tests", "data", "models/base.dvc", "models/.gitignore"):
            for folder in (SHARED, OWN):
                self._copy(name, f"{folder}/{name}")
            project.git("rm", "-r", "--quiet", "--", name)
        self.rename(SHARED, "shared")
        self.rename(OWN, "own")
        self._copy(".dvc/config", f"{OWN}/.dvc/config")
        project.write(f"{OWN}/.dvc/config", (project.folder / ".dvc/config").read_text().replace("../../", "../../../"))
        project.commit("Two projects")
        project.push()
        sources = (("shared", SHARED), ("own", OWN))
        self.world = make_world(
            projects=tuple(ProjectSource(name=n, repository=str(project.remote), folder=f) for n, f in sources)
        )

    def _copy(self, name: str, to: str) -> None:
        source, target = self.project.folder / name, self.project.folder / to
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_file():
            shutil.copyfile(source, target)
        else:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.jsonl"))

    def rename(self, folder: str, name: str) -> None:
        file = self.project.folder / folder / "llmops.yaml"
        file.write_text(file.read_text().replace("name: zoo\n", f"name: {name}\n"))

    def begin(self) -> None:
        """Records the head as delivered, in both projects."""
        for name in ("shared", "own"):
            self.world.ledger.open_request(name, self.project.head, 1, "first run", status="done")

    def tick(self, name: str) -> tuple[str, int]:
        said, requests = self.world.tick(f"{name}_git")
        return said or "", len(requests)


@pytest.fixture
def monorepo(make_project: Callable[[], Project], make_world: Callable[..., World]) -> Monorepo:
    return Monorepo(make_project(), make_world)


def test_a_change_runs_the_project_in_whose_folder_it_is(monorepo: Monorepo) -> None:
    monorepo.begin()
    monorepo.project.write(f"{SHARED}/prompts/ask.jinja", "Tell me: {{ input }}\n")
    monorepo.project.ship("A prompt of the first")
    said, runs = monorepo.tick("own")
    assert runs == 0 and "its files are the same" in said
    assert monorepo.tick("shared")[1] == 1


def test_a_change_outside_of_all_folders_runs_nothing(monorepo: Monorepo) -> None:
    monorepo.begin()
    monorepo.project.write("README.md", "# About all of them\n")
    monorepo.project.write("models/other/llmops.yaml", "name: other\n")
    monorepo.project.ship("Elsewhere")
    for name in ("shared", "own"):
        said, runs = monorepo.tick(name)
        assert runs == 0 and "nothing to do" in said


@pytest.mark.parametrize(("name", "folder"), [("shared", SHARED), ("own", OWN)])
def test_code_is_checked_and_data_is_pulled_in_the_folder(monorepo: Monorepo, name: str, folder: str) -> None:
    """DVC's root is the repository's for one project, and the folder for the other."""
    monorepo.project.write("tests/test_of_all.py", "def test_that_fails():\n    assert False\n")
    sha = monorepo.project.ship("A test that fails, outside")
    monorepo.world.source(name).git.fetch()
    result = monorepo.world.materialize(name, "ci_report", "dataset_version")
    assert result.success, Outcome.of(result).failures
    records = monorepo.world.ledger.records_of(name, sha)
    report, data = records["ci_report"], records["dataset_version"]
    assert isinstance(report, CiReport) and all(check.passed for check in report.checks), "not the test outside"
    assert isinstance(data, DatasetVersion) and data.train.rows > 0
    tree = monorepo.world.source(name).work_tree(sha)
    assert tree.as_posix().endswith(folder) and (tree / "data/test.jsonl").exists()


def test_a_link_out_of_the_folder_leaves_the_project(monorepo: Monorepo) -> None:
    monorepo.begin()
    (monorepo.project.folder / OWN / "notes.md").symlink_to(Path("..") / "README.md")
    monorepo.project.ship("A link")
    said, runs = monorepo.tick("own")
    assert runs == 0 and "notes.md: a symbolic link" in said and "outside the project" in said


def test_a_folder_that_is_not_there_is_named(monorepo: Monorepo) -> None:
    monorepo.begin()
    monorepo.project.git("mv", OWN, "renamed")
    monorepo.project.ship("Renamed")
    said, runs = monorepo.tick("own")
    assert runs == 0 and "has no folder 'own'" in said


def test_a_folder_without_a_configuration_is_named(monorepo: Monorepo) -> None:
    monorepo.begin()
    monorepo.project.git("rm", "--quiet", f"{OWN}/llmops.yaml")
    monorepo.project.write(f"{OWN}/README.md", "# Nothing\n")
    monorepo.project.ship("Without")
    assert "llmops.yaml: missing in own/ of" in monorepo.tick("own")[0]
