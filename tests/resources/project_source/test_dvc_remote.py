"""A DVC remote that does not answer is not one that lacks data. A real S3 server, stopped and started again."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from resources.project_source.dvc import DataNotPushed
from resources.project_source.dvc_remote import TimeLimit
from resources.project_source.errors import RemoteUnreachable, SourceError
from resources.project_source.revisions import ProjectRepository
from tests.support.extras import needs
from tests.support.projects import Outcome, Project, Watched, World, rows, write_rows
from tests.support.seaweed import Seaweed
from tests.support.waiting import CEILING_S, wait_for

pytestmark = needs("s3fs", "aws")
CONFIG = "[core]\n    remote = storage\n['remote \"storage\"']\n    url = {url}\n    endpointurl = {endpoint}\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    server = Seaweed(tmp_path_factory.mktemp("seaweed"))
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_MAX_ATTEMPTS", "1")  # a refused connection is final here, and each attempt waits longer
    for name, value in server.environment.items():
        patch.setenv(name, value)
    try:
        server.wait()
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("zoo-data")
        yield server
    finally:
        patch.undo()
        server.stop()


class Remote:
    """A project whose data is in a bucket, and its reader."""

    def __init__(self, project: Project, home: Path, endpoint: str):
        self.project, self.endpoint = project, endpoint
        self.at("s3://zoo-data/zoo")
        project.dvc_push()
        project.ship("Data in a bucket")
        watched = ProjectSource(name="zoo", repository=str(project.remote))
        self.source = ProjectRepository(watched, Settings(home=home, projects=(watched,)))

    def at(self, url: str, endpoint: str | None = None) -> None:
        self.project.write(".dvc/config", CONFIG.format(url=url, endpoint=endpoint or self.endpoint))

    def ship(self) -> str:
        self.project.ship("Changed")
        self.source.git.fetch()
        return self.project.head

    def missing(self) -> list[str]:
        self.source.git.fetch()
        return self.source.missing_data(self.source.at(self.project.head))


@pytest.fixture
def remote(server: Seaweed, project: Project, tmp_path: Path) -> Remote:
    return Remote(project, tmp_path / "home", server.url)


def test_absent_data_is_named_and_a_server_that_is_down_is_not_taken_for_it(
    server: Seaweed, remote: Remote, project: Project
) -> None:
    """DVC's own look-up says "not there" to a refused connection: users were told to push data that they had pushed."""
    assert remote.missing() == []
    write_rows(project.folder / "data/train.jsonl", rows(30))
    project.dvc_add("data/train.jsonl", push=False)
    remote.ship()
    assert remote.missing() == ["data/train.jsonl"]
    at = remote.source.at(project.head)
    with pytest.raises(DataNotPushed, match=r"data/train\.jsonl: not in the DVC remote; run `dvc push`"):
        remote.source.pull(at, ["data/train.jsonl"])
    server.stop()
    try:
        with pytest.raises(RemoteUnreachable, match=r"the DVC remote s3://zoo-data/zoo cannot be reached \("):
            remote.missing()
    finally:
        server.start()
        server.wait()

    def pushed() -> bool:
        """A server that has just started answers some requests with an internal error."""
        try:
            project.dvc_push()
        except OSError:
            return False
        return True

    wait_for("a push that succeeds", pushed)
    assert remote.missing() == []
    assert (remote.source.pull(at, ["data/train.jsonl"]) / "data/train.jsonl").is_file()


@pytest.mark.parametrize(
    ("url", "endpoint", "said"),
    [
        ("s3://zoo-dtaa/zoo", None, "s3://zoo-dtaa/zoo does not exist"),
        ("s3://zoo-data/zoo", "http://no-such-host.invalid:1", "cannot be reached"),
        ("/no/such/mount", None, "/no/such/mount does not exist. Is it mounted"),
    ],
)
def test_a_remote_that_does_not_exist_is_told_from_one_that_lacks_data(
    remote: Remote, url: str, endpoint: str | None, said: str
) -> None:
    remote.at(url, endpoint) if url.startswith("s3") else remote.project.write(
        ".dvc/config", f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {url}\n"
    )
    remote.ship()
    with pytest.raises(RemoteUnreachable, match=said):
        remote.missing()


def test_wrong_credentials_are_neither(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-somebody-else")
    with pytest.raises(RemoteUnreachable, match=r"refuses access .*check its credentials") as error:
        remote.missing()
    assert "of-somebody-else" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[core]\n    analytics = false\n", "no remote specified"),
        ("[core]\n    remote = gone\n", "gone"),
        ("[core]\n    remote = storage\n['remote \"storage\"']\n    url = gs://bucket/x\n", "dvc.gs"),
        ("[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://b\n    colour = red\n", "colour"),
    ],
)
def test_a_configuration_that_names_no_usable_remote_is_no_outage(
    project: Project, tmp_path: Path, config: str, said: str
) -> None:
    project.write(".dvc/config", config)
    sha = project.ship("Another remote")
    watched = ProjectSource(name="zoo", repository=str(project.remote))
    source = ProjectRepository(watched, Settings(home=tmp_path / "home", projects=(watched,)))
    source.git.fetch()
    with pytest.raises(SourceError, match=said) as error:
        source.missing_data(source.at(sha))
    assert not isinstance(error.value, RemoteUnreachable)


def test_a_remote_that_hangs_ends_no_tick_and_is_asked_once_at_a_time() -> None:
    """Dagster ends a tick after 60 s, and an unanswered connection attempt takes minutes."""
    answer, asked = threading.Event(), []
    limit = TimeLimit("the remote", 0.2)

    def ask() -> int:
        asked.append(1)
        answer.wait(60)
        return 1

    began = time.monotonic()
    with pytest.raises(RemoteUnreachable, match=r"the remote does not answer within 0\.2 s"):
        limit(ask)
    with pytest.raises(RemoteUnreachable, match=r"has not answered for more than 0\.2 s"):
        limit(ask)
    assert len(asked) == 1 and time.monotonic() - began < 30
    answer.set()
    assert limit._running is not None
    limit._running.join()
    assert limit(ask) == 1


def test_a_request_outlives_an_outage_of_its_data(
    server: Seaweed, remote: Remote, project: Project, make_world: Callable[..., World]
) -> None:
    """The run died with "run `dvc push`", which could not help, and the request failed for good."""
    watched = Watched(project, make_world(project))
    _, requests = watched.world.tick("zoo_git")
    server.stop()
    try:
        said = Outcome.of(watched.world.execute("zoo", requests[0])).failures
        assert "the DVC remote s3://zoo-data/zoo cannot be reached" in said and "dvc push" not in said
        for _ in range(2):
            waits, asked = watched.world.tick("zoo_recovery")
            assert asked == [] and "waits to continue: the DVC remote s3://zoo-data/zoo cannot be reached" in str(waits)
        assert (watched.request.active, watched.request.tries) == (True, 1)
    finally:
        server.start()
        server.wait()
    _, requests = watched.world.tick("zoo_recovery")
    assert [r.tags["llmops/revision"] for r in requests] == [project.head]


def test_an_answer_that_comes_late_is_that_of_the_next_question_about_the_same() -> None:
    answers, asked = threading.Event(), list[int]()

    def ask() -> int:
        asked.append(len(asked))
        assert answers.wait(CEILING_S)
        return asked[-1]

    limit = TimeLimit[int]("the remote", 0.0)
    with pytest.raises(RemoteUnreachable):
        limit(ask, about="this")
    answers.set()
    wait_for("the answer", lambda: _answer(limit, ask))
    assert asked == [0], "it was asked once"
    assert limit(ask, about="that", seconds=CEILING_S) == 1


def _answer(limit: "TimeLimit[int]", ask: Callable[[], int]) -> bool:
    try:
        return limit(ask, about="this") == 0
    except RemoteUnreachable:
        return False
