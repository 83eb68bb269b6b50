"""Authors of a change, and the user of this machine. An author who is not detected could approve their own work."""

from pathlib import Path

import pytest

from llmops_assets.domain.approval import Author
from resources.project_source.git_mirror import GitMirror
from resources.project_source.identity import local_identity
from tests.support.projects import Project

ADA = Author(name="Ada", email="ada@example.com")
BOB = Author(name="Bob", email="bob@example.com")


@pytest.fixture
def mirror(project: Project, tmp_path: Path) -> GitMirror:
    project.push()
    found = GitMirror(str(project.remote), "main", tmp_path / "mirror.git")
    found.fetch()
    return found


def commit(project: Project, text: str, who: Author, trailer: str = "") -> str:
    project.write("README.md", f"# {text}\n")
    project.git("add", "--all")
    project.git("commit", "--quiet", f"--author={who.name} <{who.email}>", "--message", f"{text}\n\n{trailer}")
    return project.push()


def test_all_who_wrote_since_the_champion_are_authors_and_nobody_before(project: Project, mirror: GitMirror) -> None:
    first = project.head
    second = commit(project, "By Bob", BOB)
    third = commit(project, "By Ada", ADA)
    mirror.fetch()
    assert mirror.authors(third, first) == [ADA, BOB]
    assert mirror.authors(third, second) == [ADA]
    assert mirror.authors(second, first) == [BOB]


def test_co_authors_are_authors(project: Project, mirror: GitMirror) -> None:
    first = project.head
    last = commit(project, "Together", ADA, "Co-authored-by: Bob <bob@example.com>")
    mirror.fetch()
    assert mirror.authors(last, first) == [ADA, BOB]


def test_a_branch_that_was_merged_brings_its_authors_along(project: Project, mirror: GitMirror) -> None:
    first = project.head
    project.git("checkout", "--quiet", "-b", "feature")
    project.write("notes.md", "x\n")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--author=Bob <bob@example.com>", "--message", "On a branch")
    project.git("checkout", "--quiet", "main")
    project.git("merge", "--quiet", "--no-ff", "--message", "Merge", "feature")
    last = project.push()
    mirror.fetch()
    assert set(mirror.authors(last, first)) == {ADA, BOB}


@pytest.mark.parametrize("since", [None, "0" * 40, "not a commit"])
def test_without_a_champion_every_committer_of_the_branch_is_an_author(
    project: Project, mirror: GitMirror, since: str | None
) -> None:
    last = commit(project, "By Bob", BOB)
    mirror.fetch()
    assert set(mirror.authors(last, since)) == {ADA, BOB}


def test_an_older_commit_that_is_deployed_again_has_authors_too(project: Project, mirror: GitMirror) -> None:
    """It contains no commit that the champion lacks; an empty list of authors would let everyone approve."""
    first = project.head
    last = commit(project, "By Bob", BOB)
    mirror.fetch()
    assert mirror.authors(first, last) == [ADA]
    assert mirror.authors(last, last) == [BOB]


def test_the_local_identity_is_the_configured_one_or_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n    email = ada@example.com\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.delenv("LLMOPS_USER", raising=False)
    assert local_identity() == "ada@example.com"
    monkeypatch.setenv("LLMOPS_USER", " eve@example.com ")
    assert local_identity() == "eve@example.com"
    monkeypatch.delenv("LLMOPS_USER")
    config.write_text("")
    assert local_identity() == ""
