"""GitLab and Gitea show what GitHub shows, each once, as far as they can. Held to their documentation by hand."""

from collections.abc import Iterator
from typing import Any

import pytest

from llmops_assets.domain.answer_comment import CommentAnswer, marker
from llmops_assets.domain.answers import GroupAnswer, State
from llmops_assets.domain.deployment_answers import DeploymentAnswer
from resources.code_hosts.gitea import Gitea
from resources.code_hosts.gitlab import GitLab
from resources.code_hosts.interface import CodeHost, HostRefuses, HostUnavailable
from tests.support.code_hosts import Fault, serving
from tests.support.gitlab_gitea import TOKEN, GiteaServer, GitLabServer

A = "a" * 40


@pytest.fixture
def gitlab() -> Iterator[GitLabServer]:
    server = GitLabServer()
    with serving(server):
        yield server


@pytest.fixture
def gitea() -> Iterator[GiteaServer]:
    server = GiteaServer()
    with serving(server):
        yield server


@pytest.fixture(params=["gitlab", "gitea"])
def pair(request: pytest.FixtureRequest) -> Any:
    """(server, client)."""
    server = request.getfixturevalue(request.param)
    if request.param == "gitlab":
        return server, GitLab(server.url, "group/sub/zoo", TOKEN)
    return server, Gitea(server.url, "o/zoo", TOKEN)


def group(state: State, headline: str = "done") -> GroupAnswer:
    return GroupAnswer(project="zoo", revision=A, group="ci", state=state, headline=headline, url="https://d/1")


def comment(text: str) -> CommentAnswer:
    return CommentAnswer(project="zoo", number=7, body=f"{marker('zoo')}\n{text}")


def test_a_status_goes_through_all_its_states(pair: tuple[Any, CodeHost]) -> None:
    server, host = pair
    states: tuple[State, ...] = ("queued", "running", "waiting", "running", "failure", "queued", "success", "neutral")
    seen = []
    for number, state in enumerate(states):
        host.report(group(state, f"step {number}"), "")
        seen.append(server.shown(A)["llmops/zoo/ci"][0])
    assert seen[0] == "pending" and seen[4] in ("failed", "failure") and seen[-2:] == ["success", "success"]
    assert all(state not in ("success",) for state in seen[:6]), "nothing that did not pass looks like a pass"


def test_a_status_that_is_shown_already_is_not_posted_again(pair: tuple[Any, CodeHost]) -> None:
    server, host = pair
    server.faults = [Fault("POST .*/statuses/", kind="cut")]
    with pytest.raises(HostUnavailable):
        host.report(group("success", "x" * 400), "")
    host.report(group("success", "x" * 400), "")
    assert len(server.statuses) == 1 and len(server.statuses[0]["description"]) == 255


def test_a_comment_is_made_once_and_updated(pair: tuple[Any, CodeHost]) -> None:
    server, host = pair
    author = {"username": "mallory", "login": "mallory"}
    theirs = {"id": 900_000, "body": f"{marker('zoo')} hi", "author": author, "user": author}
    others = [{**theirs, "id": 900_001 + n, "body": "hello"} for n in range(120)]
    server.notes = {7: [theirs, *others]}
    server.faults = [Fault("POST .*/(notes|comments)", kind="cut")]
    with pytest.raises(HostUnavailable):
        host.comment(comment("one"), "")
    known = host.comment(comment("one"), "")
    assert host.comment(comment("two"), known) == known == host.comment(comment("three"), "900000")
    mine = [n["body"] for n in server.notes[7] if n["id"] < 900_000]
    assert mine == [f"{marker('zoo')}\nthree"] and theirs["body"].endswith("hi")
    server.notes[7] = []
    assert host.comment(comment("four"), known) != known


def test_gitlab_finds_merge_requests_and_shows_deployments(gitlab: GitLabServer) -> None:
    host = GitLab(gitlab.url, "group/sub/zoo", TOKEN)
    gitlab.merge_requests = {A: [3, 4]}
    assert host.pull_requests(A) == (3, 4) and host.pull_requests("b" * 40) == ()
    fields: dict[str, Any] = {"project": "zoo", "environment": "production", "identity": "rollout-1", "headline": "x"}
    running = DeploymentAnswer(revision=A, state="in_progress", **fields)
    gitlab.faults = [Fault("POST .*/deployments", kind="cut")]
    with pytest.raises(HostUnavailable):
        host.deploy(running, "")
    known = host.deploy(running, "")
    host.deploy(running.model_copy(update={"state": "success"}), known)
    host.deploy(running.model_copy(update={"state": "success"}), known)
    assert [(d["environment"]["name"], d["status"]) for d in gitlab.deployments] == [("zoo-production", "success")]


def test_gitea_finds_the_open_pull_requests_of_a_head_and_the_merged_one(gitea: GiteaServer) -> None:
    host = Gitea(gitea.url, "o/zoo", TOKEN)
    gitea.open = {number: A if number in (3, 60) else "b" * 40 for number in range(1, 71)}
    gitea.merged = {A: 3, "c" * 40: 9}
    assert host.pull_requests(A) == (3, 60) and host.pull_requests("c" * 40) == (9,)
    assert host.pull_requests("d" * 40) == () and not host.deploys


def test_what_a_token_lacks_is_said(gitlab: GitLabServer, gitea: GiteaServer) -> None:
    here = GitLab(gitlab.url, "group/sub/zoo", TOKEN)
    assert all(p.granted for p in here.verify())
    gitlab.level, gitlab.scopes = 20, ["read_api"]
    lacking = [p for p in here.verify() if p.granted is False]
    assert [p.detail for p in lacking] == ["its access level is 20; Developer is 30", "scopes: read_api"]
    assert [p.granted for p in GitLab(gitlab.url, "group/none", TOKEN).verify()] == [False]
    there = Gitea(gitea.url, "o/zoo", TOKEN)
    gitea.may_push = False
    assert [p.what for p in there.verify() if p.granted is False] == ["post statuses and comments"]
    with pytest.raises(HostUnavailable, match="does not accept the token"):
        Gitea(gitea.url, "o/zoo", "other").verify()


def test_a_refusal_has_the_hosts_own_words_and_no_token(pair: tuple[Any, CodeHost]) -> None:
    server, host = pair
    server.faults = [Fault("POST .*/statuses/", 403, message=f"no for {TOKEN}")]
    with pytest.raises(HostRefuses, match=r"403: no for \*\*\*"):
        host.report(group("queued"), "")
    server.faults = [Fault("GET ", 301)]
    with pytest.raises(HostRefuses, match=r"moved; correct code_host\.api"):
        host.report(group("queued"), "")
