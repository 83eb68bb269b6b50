"""Which projects a delivery is for: by repository, secret and branch, whatever the address is written like."""

import pytest

from llmops_assets.domain.webhooks import Answer, Nothing, Push, WatchedBranch, answer, normalized_address

MAIN = "refs/heads/main"
GITHUB = "https://github.com/Team/Zoo.git"


def watched(project: str = "zoo", branch: str = "main", *places: str) -> WatchedBranch:
    found = frozenset(normalized_address(place) for place in places or (GITHUB,))
    return WatchedBranch(project=project, places=found, branch=branch)


def push(ref: str = MAIN, *addresses: str, deleted: bool = False) -> Push:
    return Push(addresses=addresses or (GITHUB,), ref=ref, deleted=deleted)


def told(event: Push | Nothing, *branches: WatchedBranch, signed_for: tuple[str, ...] = ("zoo",)) -> Answer:
    return answer(event, branches or (watched(),), signed_for)


@pytest.mark.parametrize(
    "written",
    [
        "https://github.com/Team/Zoo.git", "https://github.com/team/zoo", "http://github.com/team/zoo/",
        "https://ada:token@github.com:443/team/zoo.git", "git@github.com:team/zoo.git", "github.com:team/zoo",
        "ssh://git@github.com:22/team/zoo.git", "git://github.com/team/zoo.git", " HTTPS://GitHub.com/team//zoo.git/ ",
    ],
)  # fmt: skip
def test_every_way_to_write_an_address_is_the_same_place(written: str) -> None:
    assert normalized_address(written) == "github.com/team/zoo"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://github.com/team/zoo", "https://github.com/team/zoo2"),
        ("https://github.com/team/zoo", "https://gitlab.com/team/zoo"),
        ("https://github.com/team/zoo", "https://github.com/team/zoo/zoo"),
        ("/srv/zoo.git", "/srv/Zoo.git"),
        ("/github.com/team/zoo", "https://github.com/team/zoo"),
    ],
)
def test_other_repositories_are_other_places(one: str, other: str) -> None:
    assert normalized_address(one) != normalized_address(other)


def test_a_folder_of_this_machine_is_one_place_as_a_path_and_as_a_url() -> None:
    assert normalized_address("file:///srv/zoo.git") == normalized_address("/srv/zoo.git/") == "/srv/zoo"


@pytest.mark.parametrize("hostile", ["", "https://[", "://", "https://", "\0", "git@:x", "a" * 10_000])
def test_what_is_no_address_is_no_error(hostile: str) -> None:
    assert isinstance(normalized_address(hostile), str)
    assert told(push(MAIN, hostile)).code == 404


def test_a_project_without_an_address_is_no_match_for_a_push_without_one() -> None:
    nowhere = WatchedBranch(project="zoo", places=frozenset(), branch="main")
    assert told(push(MAIN, "https://["), nowhere).code == 404


def test_a_push_to_the_watched_branch_wakes_its_project() -> None:
    found = told(push())
    assert (found.status, found.code, found.projects) == ("accepted", 202, ("zoo",))


def test_all_projects_that_watch_the_branch_are_woken_and_no_other() -> None:
    branches = (watched("one"), watched("two"), watched("three", "dev"), watched("four", "main", "https://x.org/a/b"))
    assert told(push(), *branches, signed_for=("one", "two", "three", "four")).projects == ("one", "two")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (push("refs/heads/dev"), "branch dev is not watched, but main"),
        (push("refs/heads/main2"), "branch main2 is not watched"),
        (push("refs/tags/main"), "tag main has no part in what is deployed"),
        (push("refs/pull/1/head"), "pull request 1 does not run by the settings"),
        (push("refs/pull/"), "pull request  does not run"),
        (push(deleted=True), "branch main was deleted"),
        (Nothing(reason="the event star starts nothing here"), "the event star"),
    ],
)
def test_what_needs_no_look_is_answered_with_its_reason(event: Push | Nothing, reason: str) -> None:
    found = told(event)
    assert (found.status, found.code, found.projects) == ("ignored", 202, ())
    assert reason in found.reason


@pytest.mark.parametrize(
    ("ref", "runs_more", "tags_decide", "looked_at"),
    [
        ("refs/heads/feature/x", True, False, "branch feature/x"),
        ("refs/heads/feature/x", False, True, None),
        ("refs/pull/12/head", True, False, "pull request 12"),
        ("refs/merge-requests/7/head", True, False, "pull request 7"),
        ("refs/pull/12/head", False, True, None),
        ("refs/tags/v1", False, True, "tag v1"),
        ("refs/tags/v1", True, False, None),
    ],
)
def test_what_else_runs_by_the_settings_is_looked_at(
    ref: str, runs_more: bool, tags_decide: bool, looked_at: str | None
) -> None:
    found = told(push(ref), watched().model_copy(update={"more": runs_more, "tags": tags_decide}))
    assert found.projects == (("zoo",) if looked_at else ())
    assert looked_at is None or found.reason == f"{looked_at} is looked at now"


def test_a_ping_is_answered_with_success() -> None:
    assert told(Nothing(reason="pong", ping=True)).code == 200


def test_an_unknown_repository_is_refused_by_name() -> None:
    found = told(push(MAIN, "https://github.com/team/farm.git"))
    assert (found.status, found.code) == ("refused", 404)
    assert "https://github.com/team/farm.git" in found.reason


def test_a_secret_of_another_project_wakes_nobody() -> None:
    found = told(push(), watched("zoo"), watched("farm", "main", "https://x.org/a/b"), signed_for=("farm",))
    assert (found.status, found.code, found.projects) == ("refused", 403, ())


def test_of_two_projects_in_one_repository_the_secret_wakes_its_own() -> None:
    assert told(push(), watched("zoo"), watched("farm"), signed_for=("farm",)).projects == ("farm",)


def test_hostile_names_are_quoted_short_and_on_one_line() -> None:
    found = told(push("refs/heads/" + "x\n" * 5_000))
    assert len(found.reason) < 250 and "\n" not in found.reason
