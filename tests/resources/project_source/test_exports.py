"""Exporting a commit for programs, by several processes at once. Real Git."""

from concurrent.futures import ThreadPoolExecutor

from resources.project_source.revisions import ProjectRepository
from tests.resources.project_source.sources import source_of
from tests.support.projects import Project


def test_an_export_is_the_commit_and_the_users_checkout_is_left_alone(
    project: Project, source: ProjectRepository
) -> None:
    sha = project.head
    project.write("README.md", "# Not committed\n")
    project.write("stray.py", "import os\n")
    before = project.git("status", "--porcelain"), project.git("rev-parse", "HEAD")
    tree = source_of(project, source.settings.home / "other", str(project.folder)).git
    tree.fetch()
    for mirror in (source.git, tree):
        folder = mirror.export(sha, source.settings.home / "work" / mirror.folder.parent.parent.name)
        assert (folder / "README.md").read_text() == "# A project\n" and not (folder / "stray.py").exists()
        assert not (folder / "data/train.jsonl").exists(), "data comes by DVC, not by Git"
    assert (project.git("status", "--porcelain"), project.git("rev-parse", "HEAD")) == before


def test_an_export_that_was_cut_is_made_again(project: Project, source: ProjectRepository) -> None:
    tree = source.work_tree(project.head)
    (tree.parent / f"{tree.name}.complete").unlink()
    (tree / "llmops.yaml").unlink()
    assert (source.work_tree(project.head) / "llmops.yaml").exists()


def test_both_sensors_may_ask_for_the_same_tree_at_once(project: Project, source: ProjectRepository) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: source.missing_data(source.at(project.head)), range(4)))
    assert found == [[]] * 4
