"""What a pull request shows of real commits: plan, progress and verdict in this order, in one comment that is updated.

Each test continues from the one before. GitHub is `tests.support.github`, which holds requests to GitHub's description.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.code_host import CodeHostAnswers
from tests.support.github import TOKEN, GitHubServer, github_server
from tests.support.projects import LIGHT, Outcome, Project, Watched, World
from tests.support.waiting import wait_for

PULL = 7


class Case(Watched):
    github: GitHubServer

    def ship(self, message: str, change: dict[str, Any] | None = None) -> str:
        """Ships a commit of the pull request, and answers beside its runs as the daemon does; returns the commit."""
        sha = self.project.ship(message, change)
        self.github.pulls[sha] = [PULL]
        self.settle()
        return sha

    def settle(self) -> Outcome:
        over = threading.Event()
        beside = CodeHostAnswers(self.world.settings.projects[0], self.world.clients)

        def post() -> None:
            while not over.wait(0.05):
                beside.run()

        poster = threading.Thread(target=post)
        poster.start()
        try:
            outcome = self.world.settle()
        finally:
            over.set()
            poster.join()
        wait_for("the answers", lambda: self.world.tick("zoo_code_host")[0] == "nothing to post")
        return outcome

    def comments(self) -> list[str]:
        """Every text that the comment has had, oldest first."""
        return [s.body["body"] for s in self.github.posts("/comments")]

    def concluded(self, sha: str) -> dict[str, str | None]:
        found = self.github.conclusions(sha)
        return {name.removeprefix("llmops/zoo/"): conclusion for name, (_, conclusion) in found.items()}


@pytest.fixture(scope="module")
def case(
    make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path, prism_url: str
) -> Iterator[Case]:
    project = make_project()
    project.configure({**LIGHT, "ci": {"tests": False, "ruff": False}})
    with github_server(prism_url) as github, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_TOKEN_OF_TESTS", TOKEN)
        github.app = True
        host = {"via": "github", "api": github.url, "repository": "o/zoo", "token": {"env": "GITHUB_TOKEN_OF_TESTS"}}
        source = ProjectSource.model_validate(
            {"name": "zoo", "repository": str(project.remote), "code_host": host, "web": "https://git.example.com/zoo"}
        )
        found = Case(project, make_world(project, computed=computed, projects=(source,)))
        found.github = github
        assert found.world.tick("zoo_code_host")[0] == "nothing to post"
        yield found


def test_a_commit_is_answered_by_plan_then_progress_then_verdict(case: Case) -> None:
    sha = case.ship("First")
    assert case.request.status == "released"
    texts = case.comments()
    assert len(case.github.comments[PULL]) == 1 and texts[-1] == case.github.comments[PULL][0]["body"]
    assert "<details><summary>Plan</summary>\n\nEstimate: " in texts[0] and "is released" not in texts[0]
    assert "### Stages\n\n| stage | action | why |" in texts[0] and "### Asked" in texts[0]
    headings = [text.split("\n\n")[1] for text in texts]
    phases = ["queued", "running", "released"]
    order = [next(phases.index(p) for p in phases if p in heading) for heading in headings]
    assert order == sorted(order) and order[-1] == 2 and 1 in order, headings
    assert "✅ is released" in headings[-1]
    assert f"[commit](https://git.example.com/zoo/commit/{sha})" in texts[-1]
    concluded = case.concluded(sha)
    assert concluded["release"] == concluded["staging"] == "success" and "failure" not in concluded.values()
    assert {d["environment"]: d["statuses"][0]["state"] for d in case.github.deployments} == {
        "zoo-staging": "success", "zoo-production": "success",
    }  # fmt: skip


def test_a_verdict_has_the_table_against_the_champion(case: Case) -> None:
    case.project.write("prompts/ask.jinja", "Say: {{ input }}\n")
    case.ship("Another prompt")
    text = case.comments()[-1]
    assert "#### evaluation\\_report: passed" in text
    assert "| metric | this model | champion | difference |" in text and "rougeL" in text
    assert "-Ask: {{ input }}" in text or "+Say: {{ input }}" in text
    assert len(case.github.comments[PULL]) == 1


def test_a_rejection_says_failure_and_what_follows_does_not_pass(case: Case) -> None:
    sha = case.ship("Too much is asked", {"gates": [{"metric": "rougeL", "at_least": 99.0}]})
    assert case.request.status == "rejected"
    text, concluded = case.comments()[-1], case.concluded(sha)
    assert "❌ is rejected" in text and "llmops status zoo" in text and "99" in text
    assert concluded["evaluation"] == "failure" and concluded["release"] == "cancelled"
    (run,) = [c for c in case.github.checks if c["head_sha"] == sha and c["name"].endswith("/evaluation")]
    assert "99" in run["output"]["summary"] and run["output"]["title"]


def test_what_waits_for_a_person_says_who_and_how(case: Case) -> None:
    case.project.write("prompts/ask.jinja", "Tell: {{ input }}\n")
    sha = case.ship("Ask Eve", {"gates": LIGHT["gates"], "deployment": {"review": {"approvers": ["eve@example.com"]}}})
    assert case.request.status == "waiting"
    text, concluded = case.comments()[-1], case.concluded(sha)
    assert "✋ waits for a person" in text
    assert "llmops approve zoo --report " in text.split("```sh\n")[1]
    assert concluded["evaluation"] == "action_required" and concluded["release"] is None
    code, said = case.world.llmops("reject", "--reason", "it invents animals")
    assert code == 0, said
    case.settle()
    assert case.concluded(sha)["evaluation"] == "failure" and "it invents animals" in case.comments()[-1]
    assert len(case.github.comments[PULL]) == 1
