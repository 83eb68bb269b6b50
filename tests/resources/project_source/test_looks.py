"""Looks at remotes: shared by a project's sensors, parallel over projects, and none waits for another's remote."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_assets.config.watched_project import ProjectSource
from resources.project_source.errors import SourceError
from resources.project_source.git_mirror import GitMirror
from resources.project_source.looks import Gate, RemoteLooks, StillLooking
from tests.support.many_projects import change, make_repositories, name_of, note_heads, sources_of
from tests.support.projects import Project, World
from tests.support.remotes import SlowLink, git_daemon
from tests.support.waiting import CEILING_S, wait_for

SHARED_FOR_S = 5.0


class Remote:
    """A remote that answers when it is told to; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked, self.now, self.error = 0, 0.0, ""
        self.answers = threading.Event()
        self.answers.set()

    def update(self) -> None:
        self.asked += 1
        assert self.answers.wait(CEILING_S)
        if self.error:
            raise SourceError(self.error)

    def looks(self, shared_for_s: float = SHARED_FOR_S) -> RemoteLooks:
        return RemoteLooks(
            self.update, lambda: "it is asked", shared_for_s=shared_for_s, patience_s=CEILING_S, gate=Gate(),
            clock=lambda: self.now,
        )  # fmt: skip


@pytest.fixture
def remote() -> Remote:
    return Remote()


def test_the_sensors_of_a_project_share_a_look_and_none_uses_it_twice(remote: Remote) -> None:
    looks = remote.looks()
    looks.current("git")
    looks.current("dvc")
    assert remote.asked == 1
    looks.current("git")
    assert remote.asked == 2


def test_who_knows_of_a_push_gets_a_look_that_began_after_it(remote: Remote) -> None:
    """A look of another sensor, also one under way, may have seen the remote as it was before."""
    looks = remote.looks()
    looks.current("git")
    looks.current("dvc", fresh=True)
    assert remote.asked == 2
    remote.answers.clear()
    remote.now += SHARED_FOR_S + 1
    looks.begin_if_due()
    thread = threading.Thread(target=lambda: looks.current("git", fresh=True))
    thread.start()
    wait_for("the look under way", lambda: remote.asked == 3)
    remote.answers.set()
    thread.join(CEILING_S)
    assert remote.asked == 4


def test_an_old_look_is_not_shared(remote: Remote) -> None:
    looks = remote.looks()
    looks.current("git")
    remote.now += SHARED_FOR_S + 1
    looks.current("dvc")
    assert remote.asked == 2


def test_a_folder_of_this_machine_is_looked_at_by_each_sensor(remote: Remote) -> None:
    looks = remote.looks(shared_for_s=0.0)
    remote.now += 1
    looks.current("git")
    remote.now += 1
    looks.current("dvc")
    looks.begin_if_due()
    assert remote.asked == 2


def test_an_answer_that_comes_late_serves_the_next_tick_however_old_it_is(remote: Remote) -> None:
    looks = remote.looks()
    remote.answers.clear()
    with pytest.raises(StillLooking, match="it is asked"):
        looks.current("git", patience_s=0.0)
    remote.now += 100
    remote.answers.set()
    looks.current("git", patience_s=CEILING_S)
    assert remote.asked == 1


def test_a_remote_that_did_not_answer_is_not_waited_for_again(remote: Remote) -> None:
    looks = remote.looks()
    remote.answers.clear()
    with pytest.raises(StillLooking):
        looks.current("git", patience_s=0.0)
    with pytest.raises(StillLooking):
        looks.current("dvc")  # would wait for the answer that this test never gives
    remote.answers.set()


def test_an_error_is_told_to_each_sensor_and_the_next_look_may_succeed(remote: Remote) -> None:
    looks = remote.looks()
    remote.error = "unreachable"
    for reader in ("git", "dvc"):
        with pytest.raises(SourceError, match="unreachable"):
            looks.current(reader)
    remote.error = ""
    looks.current("git")
    assert remote.asked == 2


def test_looks_begin_ahead_only_where_somebody_has_used_the_last_one(remote: Remote) -> None:
    looks = remote.looks()
    looks.begin_if_due()
    wait_for("the look", lambda: remote.asked == 1)
    looks.current("git")
    looks.begin_if_due()
    looks.current("git")
    assert remote.asked == 2


def test_looks_that_hang_take_no_place_from_others() -> None:
    now, gate = [0.0], Gate(most=2, young_s=1.0, clock=lambda: now[0])
    entered = threading.Semaphore(0)
    done = threading.Event()

    def hang() -> None:
        with gate.place():
            entered.release()
            done.wait(CEILING_S)

    threads = [threading.Thread(target=hang) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert entered.acquire(timeout=CEILING_S) and entered.acquire(timeout=CEILING_S)
    assert not entered.acquire(timeout=0.2), "a third one waits"
    now[0] = 2.0
    assert entered.acquire(timeout=CEILING_S), "the first two hang, so it begins"
    done.set()
    for thread in threads:
        thread.join()


# -- over a network -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repositories(template_project: Project, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_repositories(template_project, tmp_path_factory.mktemp("remotes"), 4)


@pytest.fixture(scope="module")
def link(repositories: list[Path]) -> Iterator[SlowLink]:
    with git_daemon(repositories[0].parent) as port, SlowLink(port).running() as link:
        yield link


def address(link: SlowLink, repository: Path) -> str:
    return f"git://127.0.0.1:{link.port}/{repository.name}"


def test_an_unchanged_remote_costs_one_connection_and_a_changed_one_is_fetched(
    link: SlowLink, repositories: list[Path], tmp_path: Path
) -> None:
    mirror = GitMirror(address(link, repositories[0]), "main", tmp_path / "mirror.git")
    mirror.update()
    before = link.connections
    mirror.update()
    assert link.connections == before + 1
    head = change(repositories[0], {"README.md": "# Changed\n"})
    mirror.update()
    assert mirror.head() == head and link.connections == before + 3


def test_a_tag_that_is_removed_or_moved_is_seen(link: SlowLink, repositories: list[Path], tmp_path: Path) -> None:
    import pygit2

    repo = pygit2.Repository(str(repositories[0]))
    first = str(repo.revparse_single("main").id)
    ada = pygit2.Signature("Ada", "ada@example.com")
    repo.create_tag("v1", first, pygit2.enums.ObjectType.COMMIT, ada, "the first")
    mirror = GitMirror(address(link, repositories[0]), "main", tmp_path / "mirror.git")
    mirror.update()
    assert mirror.resolve("v1") == first
    before = link.connections
    mirror.update()
    assert link.connections == before + 1, "an annotated tag, which points to an object of its own, has not changed"
    repo.references.delete("refs/tags/v1")
    mirror.update()
    with pytest.raises(SourceError, match="no commit, branch or tag"):
        mirror.resolve("v1")


def test_a_remote_that_hangs_delays_its_own_project_only(
    link: SlowLink, repositories: list[Path], make_world: Callable[..., World]
) -> None:
    with SlowLink(0, hangs=True).running() as hanging:
        addresses = [address(hanging if n == 0 else link, path) for n, path in enumerate(repositories)]
        world = make_world(projects=sources_of(addresses))
        note_heads(world.ledger, repositories)
        said, _ = world.tick("zoo_000_git")
        assert "goes on in the background" in (said or "")
        for number in range(1, len(repositories)):

            def found(number: int = number) -> bool:
                said, _ = world.tick(f"zoo_{number:03}_git")
                return (said or "").endswith("is done")

            wait_for(f"the head of {name_of(number)}", found)
        assert hanging.connections == 1, "its fetch is waited for, and not begun again"


def test_one_tick_has_all_projects_remotes_asked_at_once(
    repositories: list[Path], make_world: Callable[..., World]
) -> None:
    """None of them answers: if they were asked one after another, there would be one connection."""
    with SlowLink(0, hangs=True).running() as hanging:
        world = make_world(projects=sources_of([address(hanging, path) for path in repositories]))
        world.tick("zoo_000_git")
        wait_for("a question to each", lambda: hanging.connections == len(repositories))


def test_a_project_whose_address_is_not_set_delays_no_other(
    link: SlowLink, repositories: list[Path], make_world: Callable[..., World]
) -> None:
    missing = ProjectSource.model_validate({"name": "nowhere", "repository": {"env": "NOT_SET_ANYWHERE"}})
    world = make_world(projects=(missing, *sources_of([address(link, repositories[0])])))
    said, _ = world.tick("nowhere_git")
    assert "NOT_SET_ANYWHERE" in (said or "")
    note_heads(world.ledger, repositories[:1])
    wait_for("the other's head", lambda: (world.tick("zoo_000_git")[0] or "").endswith("is done"))
