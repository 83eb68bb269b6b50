"""Authors of a change, and the user of this machine. An author who is not detected could approve their own work."""

from pathlib import Path

import pytest

from llmops_assets.domain.approval import Author, is_author
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


def commit(
    project: Project,
    text: str,
    who: Author,
    trailer: str = "",
    committer: Author | None = None,
    file: str = "README.md",
) -> str:
    by = committer or who
    project.write(file, f"# {text}\n")
    project.git("add", "--all")
    identity = ("-c", f"user.name={by.name}", "-c", f"user.email={by.email}")
    message = f"{text}\n\n{trailer}"
    project.git(*identity, "commit", "--quiet", f"--author={who.name} <{who.email}>", "--message", message)
    return project.head


def test_all_who_wrote_since_the_champion_are_authors_and_nobody_before(project: Project, mirror: GitMirror) -> None:
    first = project.head
    second = commit(project, "By Bob", BOB)
    third = commit(project, "By Ada", ADA)
    project.push()
    mirror.fetch()
    assert mirror.authors(third, first) == [ADA, BOB]
    assert mirror.authors(third, second) == [ADA]
    assert mirror.authors(second, first) == [BOB]


def test_co_authors_are_authors(project: Project, mirror: GitMirror) -> None:
    first = project.head
    last = commit(project, "Together", ADA, "Co-authored-by: Bob <bob@example.com>")
    project.push()
    mirror.fetch()
    assert mirror.authors(last, first) == [ADA, BOB]


@pytest.mark.parametrize(
    "trailer",
    ["CO-AUTHORED-BY: Bob <bob@example.com>", "  Co-authored-by : Bob <bob@example.com> ",
     "Co-authored-by: bob@example.com",
     "Co-authored-by: Bob <bob@example.com> (pairing)\nSigned-off-by: Ada <ada@example.com>"],
)  # fmt: skip
def test_a_co_author_is_known_however_the_trailer_is_written(project: Project, mirror: GitMirror, trailer: str) -> None:
    """A co-author whose trailer was written in another way could approve their own work."""
    first = project.head
    last = commit(project, "Together", ADA, trailer)
    project.push()
    mirror.fetch()
    assert is_author("bob@example.com", mirror.authors(last, first))
    assert not is_author("eve@example.com", mirror.authors(last, first))


def test_who_committed_the_work_of_another_is_an_author_too(project: Project, mirror: GitMirror) -> None:
    """Bob applied a patch under Ada's name and then approved it."""
    first = project.head
    last = commit(project, "A patch", ADA, committer=BOB)
    project.push()
    mirror.fetch()
    assert mirror.authors(last, first) == [ADA, BOB]


def test_the_watched_branch_contains_its_own_commits_and_no_others(project: Project, mirror: GitMirror) -> None:
    first = project.head
    second = commit(project, "On main", ADA)
    project.push()
    project.git("checkout", "--quiet", "-b", "feature", first)
    aside = commit(project, "On a branch", BOB, file="aside.md")
    project.git("push", "--quiet", "origin", "feature")
    project.git("checkout", "--quiet", "main")
    mirror.fetch()
    assert [mirror.contains(sha) for sha in (first, second, aside)] == [True, True, False]
    project.git("merge", "--quiet", "--no-ff", "--message", "Merge", "feature")
    project.push()
    mirror.fetch()
    assert mirror.contains(aside)
    project.git("reset", "--quiet", "--hard", first)
    project.push("--force")
    mirror.fetch()
    assert [mirror.contains(sha) for sha in (first, second, aside)] == [True, False, False], "it was rewritten"


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
    project.push()
    mirror.fetch()
    assert set(mirror.authors(last, since)) == {ADA, BOB}


def test_an_older_commit_that_is_deployed_again_has_authors_too(project: Project, mirror: GitMirror) -> None:
    """It contains no commit that the champion lacks; an empty list of authors would let everyone approve."""
    first = project.head
    last = commit(project, "By Bob", BOB)
    project.push()
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
