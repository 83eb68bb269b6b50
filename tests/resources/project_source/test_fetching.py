"""A fetch that takes long: a first clone had 120 s, inside a sensor's tick that Dagster ends after 60 s.

The remote is reached by a stand-in for ssh, which waits for a file before it runs Git's own server.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from resources.project_source.errors import SourceError
from resources.project_source.fetching import StillFetching
from resources.project_source.git_mirror import GitMirror
from resources.project_source.revisions import ProjectRepository
from sensors.source_changes import read_head
from tests.support.projects import Project
from tests.support.waiting import CEILING_S, wait_for

SSH = """\
#!/bin/sh
echo began >> {folder}/began
until [ -e {folder}/go ]; do sleep 0.05; done
shift
exec sh -c "$*"
"""


class Slow:
    """A remote that answers when it is told to."""

    def __init__(self, folder: Path, remote: Path):
        self.folder, self.url = folder, f"ssh://host{remote}"
        script = folder / "ssh"
        script.write_text(SSH.format(folder=folder))
        script.chmod(0o755)
        self.script = script

    def go(self) -> None:
        (self.folder / "go").touch()

    @property
    def asked(self) -> int:
        file = self.folder / "began"
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def slow(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slow:
    project.push()
    slow = Slow(tmp_path, project.remote)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(slow.script))
    monkeypatch.setenv("GIT_SSH_VARIANT", "simple")
    return slow


def test_a_first_clone_goes_on_outside_the_tick_and_every_tick_says_so(
    project: Project, slow: Slow, tmp_path: Path
) -> None:
    watched = ProjectSource(name="zoo", repository=slow.url)
    source = ProjectRepository(watched, Settings(home=tmp_path / "home", projects=(watched,)))
    for _ in range(2):
        head = read_head(source, [], patience_s=0.3)
        assert head.revision is None and head.problem is not None
        assert "git fetch goes on in the background (" in head.problem and "s so far" in head.problem
    assert slow.asked == 1, "the second tick waits for the first one's fetch"
    slow.go()
    source.git.fetch()
    assert source.git.head() == project.head


def test_a_fetch_survives_the_process_that_started_it(
    project: Project, slow: Slow, tmp_path: Path, python: Callable[..., "subprocess.Popen[str]"]
) -> None:
    code = (
        "import sys, pathlib\nfrom resources.project_source.git_mirror import GitMirror\n"
        "GitMirror(sys.argv[1], 'main', pathlib.Path(sys.argv[2])).fetch()\n"
    )
    other = python(code, slow.url, str(tmp_path / "mirror.git"))
    wait_for("the fetch", lambda: slow.asked)
    other.kill()
    mirror = GitMirror(slow.url, "main", tmp_path / "mirror.git")
    with pytest.raises(StillFetching):
        mirror.fetch(patience_s=0.2)
    slow.go()
    wait_for("its end", lambda: mirror.head() == project.head)
    assert slow.asked == 1


def test_a_fetch_ends_at_its_limit_with_its_children_and_the_next_one_starts(
    project: Project, slow: Slow, tmp_path: Path
) -> None:
    mirror = GitMirror(slow.url, "main", tmp_path / "mirror.git", fetch_limit_s=1.0)
    with pytest.raises(SourceError, match=r"did not end within 1 s \(fetch_timeout in the settings\)"):
        mirror.fetch()
    slow.go()
    mirror.fetch(patience_s=CEILING_S)
    assert mirror.head() == project.head


def test_a_process_that_waits_is_told_how_far_it_is(
    slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.project_source.fetching.SAY_EVERY_S", 0.1)
    told: list[Any] = []

    def tell(text: str) -> None:
        told.append(text)
        slow.go()

    GitMirror(slow.url, "main", tmp_path / "mirror.git").fetch(on_progress=tell)
    assert told and told[0].startswith("git fetch: ") and "so far" in told[0]
