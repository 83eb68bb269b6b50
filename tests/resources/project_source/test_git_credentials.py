"""A repository's credentials reach Git, and nobody else: not its arguments, its configuration, or its messages."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from resources.project_source.errors import SourceError
from resources.project_source.git_credentials import apart
from resources.project_source.git_mirror import GitMirror
from tests.support.git_http import GitServer
from tests.support.projects import Project

USER, PASSWORD = "robot", "p@ss/of the%robot"


@pytest.fixture
def server(project: Project, tmp_path: Path) -> Iterator[GitServer]:
    project.push()
    shutil.copytree(project.remote, tmp_path / "served" / "zoo.git")
    found = GitServer(tmp_path / "served", USER, PASSWORD)
    found.publish(tmp_path / "served" / "zoo.git")
    with found.serving():
        yield found


@pytest.fixture
def url(server: GitServer, monkeypatch: pytest.MonkeyPatch) -> str:
    found = f"http://{USER}:{quote(PASSWORD, safe='')}@{server.host}/zoo.git"
    monkeypatch.setenv("ZOO_REPOSITORY", found)
    return found


def test_a_private_repository_is_fetched_and_ps_shows_no_password(
    project: Project, server: GitServer, url: str, tmp_path: Path
) -> None:
    """The whole URL was an argument of `git fetch`, and of the helper that Git starts for HTTP."""
    mirror = GitMirror(url, "main", tmp_path / "home" / "mirror.git")
    mirror.fetch()
    assert mirror.head() == project.head
    git = [line for line in server.listed if "remote-http" in line]
    assert git, "Git's helper was running while the server answered"
    assert not [line for line in server.listed if PASSWORD in line or quote(PASSWORD, safe="") in line]
    written = b"".join(p.read_bytes() for p in (tmp_path / "home").rglob("*") if p.is_file())
    assert PASSWORD.encode() not in written and quote(PASSWORD, safe="").encode() not in written


def test_a_refused_password_is_not_in_the_message(url: str, server: GitServer, tmp_path: Path) -> None:
    server.closed = True
    with pytest.raises(SourceError, match="is unreachable") as caught:
        GitMirror(url, "main", tmp_path / "mirror.git").fetch()
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in str(caught.value)
    assert server.host in str(caught.value), "the message still says which server it is"


def test_a_helper_of_this_machine_is_not_asked(
    project: Project, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would supply another user's password first."""
    config = tmp_path / "gitconfig"
    config.write_text('[credential]\n\thelper = "!f() { echo username=eve; echo password=wrong; }; f"\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    mirror = GitMirror(url, "main", tmp_path / "mirror.git")
    mirror.fetch()
    assert mirror.head() == project.head


def test_other_addresses_are_passed_on_as_they_are() -> None:
    for address in (
        "git@example.com:team/zoo.git",
        "ssh://git@example.com/zoo.git",
        "/srv/zoo",
        "https://example.com/z",
    ):
        assert apart(address) == (address, {})
    with pytest.raises(SourceError, match="uses no password of a ssh"):
        apart("ssh://git:s3cret@example.com/zoo.git")
