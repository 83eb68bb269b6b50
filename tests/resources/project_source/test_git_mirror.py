"""Mirroring a repository in any state: moved, broken, never reached. Real Git."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resources.project_source.errors import SourceError
from resources.project_source.git_mirror import GitMirror
from resources.project_source.revisions import ProjectRepository
from tests.resources.project_source.sources import shipped
from tests.support.projects import Project
from tests.support.waiting import CEILING_S


def test_the_head_is_that_of_the_last_fetch(project: Project, source: ProjectRepository) -> None:
    first = project.head
    project.write("README.md", "# Another\n")
    second = project.ship("Another")
    assert source.git.head() == first
    source.git.fetch()
    assert source.git.head() == second
    assert source.git.changed_files(first, second) == ["README.md"]
    assert source.git.author(second) == "Ada <ada@example.com>" and source.git.message(second) == "Another"


def test_a_commit_that_a_force_push_took_away_stays_readable(project: Project, source: ProjectRepository) -> None:
    """Provenance must outlive the branch: production may still serve that commit."""
    first = project.head
    project.write("README.md", "# Secret\n")
    lost = shipped(project, source, "To be taken back")
    project.git("reset", "--quiet", "--hard", first)
    project.push("--force")
    source.git.fetch()
    assert source.git.head() == first
    assert source.git.read(lost, "README.md") == b"# Secret\n" and source.at(lost).revision == lost


def test_a_deleted_branch_has_no_head_and_its_commits_stay(project: Project, source: ProjectRepository) -> None:
    sha = project.head
    subprocess.run(["git", "branch", "-m", "main", "trunk"], cwd=project.remote, check=True)
    source.git.fetch()
    assert source.git.head() is None
    assert source.at(sha).config.name == "zoo"


def test_an_unreachable_remote_says_so_and_leaves_the_mirror_readable(
    project: Project, source: ProjectRepository
) -> None:
    sha = project.head
    project.remote.rename(project.root / "gone")
    with pytest.raises(SourceError, match=r"remote\.git: is unreachable: fatal: .*"):
        source.git.fetch()
    assert source.git.head() == sha and source.at(sha).values["name"] == "zoo"


def test_a_repository_that_was_never_reached_is_no_empty_one(tmp_path: Path) -> None:
    mirror = GitMirror(str(tmp_path / "nowhere"), "main", tmp_path / "mirror.git")
    with pytest.raises(SourceError, match="was never fetched"):
        mirror.head()
    with pytest.raises(SourceError, match="is unreachable"):
        mirror.fetch()


def test_a_machine_without_git_gets_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause was a bare FileNotFoundError, which a sensor reports as a bug in our code."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="git: not found; install it"):
        GitMirror(str(tmp_path / "nowhere"), "main", tmp_path / "mirror.git").fetch()


def test_credentials_in_a_url_are_never_shown(tmp_path: Path) -> None:
    mirror = GitMirror("https://ada:hunter2@127.0.0.1:9/zoo.git", "main", tmp_path / "mirror.git")
    with pytest.raises(SourceError) as error:
        mirror.fetch()
    assert "hunter2" not in str(error.value) and "127.0.0.1:9/zoo.git" in str(error.value)


def test_a_revision_is_found_by_prefix_branch_and_tag(project: Project, source: ProjectRepository) -> None:
    sha = project.head
    project.git("tag", "v1")
    project.git("push", "--quiet", "origin", "v1", "main:release/candidate")
    source.git.fetch()
    for name in (sha, sha[:8], "main", "release/candidate", "v1"):
        assert source.git.resolve(name) == sha, name
    for name in (
        "nowhere",
        "0" * 40,
        "main~",
        "",
        "-x",
        "main:README.md",
        "main:data",
        "main^{tree}",
        "main..v1",
        ":/x",
        "\0",
    ):
        with pytest.raises(SourceError, match="is no commit, branch or tag"):
            source.git.resolve(name)


def test_a_commit_that_the_mirror_does_not_hold_is_a_fault_of_the_source_not_of_the_configuration(
    source: ProjectRepository,
) -> None:
    """The error was once "llmops.yaml is missing", which sent users to the wrong place."""
    for unknown in ("0" * 40, "not a commit"):
        with pytest.raises(SourceError, match="is no commit of"):
            source.at(unknown)
        with pytest.raises(SourceError):
            source.git.files(unknown)


def test_a_path_below_a_file_is_no_file(project: Project, source: ProjectRepository) -> None:
    sha = project.head
    assert source.git.read(sha, "README.md/x") is None
    assert source.git.read(sha, "prompts") is None
    assert source.git.read(sha, "nothing") is None


def test_it_works_from_within_a_hook_of_another_repository(
    project: Project, source: ProjectRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git's hooks get their repository by environment variables: `llmops run` in a hook would have changed that one."""
    project.write("README.md", "# Another\n")
    sha = project.ship("Another")
    monkeypatch.setenv("GIT_DIR", str(project.folder / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", "index")
    source.git.fetch()
    tree = source.work_tree(sha)
    monkeypatch.undo()
    assert source.git.head() == sha
    assert (tree / "llmops.yaml").exists()
    assert project.git("status", "--porcelain") == ""


FETCH = (
    "import sys, pathlib\nfrom resources.project_source.git_mirror import GitMirror\n"
    "mirror = GitMirror(sys.argv[1], 'main', pathlib.Path(sys.argv[2]))\n"
    "for _ in range(4):\n    mirror.fetch()\n"
    "print(mirror.export(sys.argv[3], pathlib.Path(sys.argv[4])) / 'llmops.yaml')\n"
)


def test_processes_that_fetch_and_export_at_once_do_not_disturb_each_other(
    project: Project, tmp_path: Path, python: Callable[..., Any]
) -> None:
    """Sensors, workers and the command line share one mirror; with Git's own locks all but one of them would fail."""
    project.push()
    args = (str(project.remote), str(tmp_path / "mirror.git"), project.head, str(tmp_path / "work" / "x"))
    processes = [python(FETCH, *args) for _ in range(4)]
    for process in processes:
        out, _ = process.communicate(timeout=CEILING_S)
        assert process.returncode == 0 and Path(out.strip()).is_file()
