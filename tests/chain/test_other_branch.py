"""A commit beside the watched branch that waits for a person: it continues once decided on, and is never deployed.

The story of one project whose reports are reviewed. Each test continues from the one before.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from llmops_assets.domain.requests import EVALUATION, Request
from tests.support.projects import LIGHT, Project, Watched, World

EVE = "eve@example.com"
DEPLOYING = {"staging_endpoint", "smoke_test_report", "release_approval", "production_endpoint"}


class Case(Watched):
    def aside(self, text: str) -> str:
        """Pushes a commit with another prompt to a branch of its own."""
        self.project.git("checkout", "--quiet", "--detach", "main")
        self.project.write("prompts/ask.jinja", text + " {{ input }}\n")
        sha = self.project.commit(f"Try {text!r}")
        self.project.git("push", "--quiet", "--force", "origin", "HEAD:refs/heads/try")
        self.project.git("checkout", "--quiet", "main")
        return sha

    def of(self, sha: str) -> Request:
        return [r for r in self.world.ledger.requests("zoo") if r.revision == sha][-1]

    def llmops(self, *words: str) -> tuple[int, str]:
        return self.world.llmops(*words, user=EVE)


@pytest.fixture(scope="module")
def case(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> Case:
    project = make_project()
    review = {"deployment": {"review": {"approvers": [EVE]}, "approval": {"required": True, "approvers": [EVE]}}}
    project.configure({**LIGHT, **review, "ci": {"tests": False, "ruff": False}})
    case = Case(project, make_world(project, computed=computed, dagster_on_disk=True))
    project.ship("Reviewed and approved")
    case.world.settle()
    assert case.request.waits_for_review, case.request.detail
    return case


def test_it_waits_for_review_and_a_newer_commit_of_the_watched_branch_does_not_replace_it(case: Case) -> None:
    watched, sha = case.project.head, case.aside("Say:")
    code, said = case.llmops("run", "--revision", sha, "--wait")
    assert code == 1 and "is waiting for review of evaluation report" in said, said
    assert f"{sha[:12]} is not in the watched branch 'main', so it is evaluated but not deployed" in said
    assert (case.of(sha).status, case.of(sha).asked_by) == ("waiting", EVALUATION)
    assert case.of(watched).status == "waiting", "nor does it replace one of the watched branch"
    case.project.ship("Shorter answers", {"deployment": {"serving": {"max_tokens": 90}}})
    case.world.settle()
    assert (case.of(watched).status, case.of(sha).status) == ("superseded", "waiting")
    assert case.request.revision == case.project.head and case.request.status == "waiting"


def test_once_accepted_it_is_measured_as_served_and_ends_without_a_release(case: Case) -> None:
    sha = case.project.git("rev-parse", "origin/try")
    report = case.of(sha).detail.split("evaluation report ")[1][:12]
    code, said = case.llmops("review", "zoo", report)
    assert code == 0 and f"llmops approve zoo --report {report} --reason WHY" in said, said
    code, said = case.llmops("approve", "--report", report, "--reason", "fine")
    assert code == 0, said
    outcome = case.world.settle()
    assert outcome.failures == "" and not outcome.materialized & DEPLOYING
    assert "served_evaluation_report" in outcome.computed
    ended = case.of(sha)
    assert (ended.status, ended.asked_by) == ("done", EVALUATION) and "not deployed" in ended.detail, ended.detail
    assert f"reviewed by {EVE}: fine" in ended.reason
    assert case.world.ledger.serving("zoo", "staging") is None
    assert [r.status for r in case.world.ledger.requests("zoo") if r.revision == case.project.head] == ["waiting"]


def test_a_rejected_one_ends_and_the_watched_branch_goes_on_to_its_own_approval(case: Case) -> None:
    sha = case.aside("Well:")
    assert case.llmops("run", "--revision", sha, "--wait")[0] == 1
    report = case.of(sha).detail.split("evaluation report ")[1][:12]
    code, said = case.llmops("reject", "--report", report, "--reason", "worse")
    assert code == 0, said
    assert (case.of(sha).status, case.of(sha).detail) == ("rejected", f"rejected by {EVE}: worse")
    head = case.of(case.project.head).detail.split("evaluation report ")[1][:12]
    assert case.llmops("approve", "--report", head, "--reason", "fine")[0] == 0
    outcome = case.world.settle()
    waiting = case.of(case.project.head)
    assert waiting.detail.startswith("waiting for approval: llmops approve zoo --release"), (waiting, outcome.failures)


def test_a_release_whose_commit_leaves_the_branch_while_it_waits_for_approval_is_not_deployed(case: Case) -> None:
    """An approval is of a release; whether its commit may be deployed is judged when traffic would move."""
    left = case.project.head
    case.project.git("reset", "--quiet", "--hard", "HEAD~1")
    case.project.git("push", "--quiet", "--force", "origin", "main")
    release = case.of(left).detail.split("--release ")[1][:12]
    code, said = case.llmops("approve", "--release", release, "--reason", "fine")
    outcome = case.world.settle()
    assert case.world.ledger.serving("zoo", "production") is None
    assert not outcome.materialized & {"production_endpoint"}
    ended = case.of(left)
    assert ended.status in ("rejected", "superseded"), (code, said, ended)
    assert "main" in ended.detail or "newer" in ended.detail, ended.detail
