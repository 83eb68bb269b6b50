"""Who must approve a commit's release, and under whose rules: compared with what production served, on real commits."""

from pathlib import Path
from typing import Any

import pytest

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.release_policy import ReleasePolicy, not_on_branch, release_policy
from llmops_assets.domain.requests import Status
from resources.ledger import Ledger
from resources.project_source.revisions import ProjectRepository
from tests.support.projects import Project

EVE, BOB = "eve@example.com", "bob@example.com"
TWO_PEOPLE = {"deployment": {"approval": {"approvers": [EVE, BOB]}}}
NO_GATES: dict[str, Any] = {"gates": []}


class Case:
    def __init__(self, project: Project, home: Path):
        settings = Settings(home=home, projects=(ProjectSource(name="zoo", repository=str(project.remote)),))
        self.project, self.source = project, ProjectRepository(settings.projects[0], settings)
        self.ledger = Ledger(settings.ledger_url)
        home.mkdir()

    def commit(self, change: dict[str, Any]) -> str:
        sha = self.project.ship(f"Change {change}", change)
        self.source.git.fetch()
        return sha

    def served(self, release: str, revision: str) -> None:
        self.ledger.serve("zoo", "production", release, revision)

    def merged(self, change: dict[str, Any], status: Status = "done") -> str:
        """A commit of the watched branch that was planned, and released nothing."""
        sha = self.commit(change)
        self.ledger.open_request("zoo", sha, 1, "policy changed", status=status)
        return sha

    def of(self, revision: str) -> ReleasePolicy:
        return release_policy(self.source, self.ledger, revision)


@pytest.fixture
def case(project: Project, tmp_path: Path) -> Case:
    return Case(project, tmp_path / "home")


def test_without_a_champion_the_commits_own_policy_applies(case: Case) -> None:
    found = case.of(case.commit(TWO_PEOPLE))
    assert (found.needed, found.loosened, found.guarded) == (True, (), False)
    assert found.rules.approvers == (EVE, BOB) and found.rules.where == "llmops.yaml"


def test_a_dropped_approval_is_needed_under_the_champions_rules_and_for_the_same_release_too(case: Case) -> None:
    """A commit that only loosened policy could be redeployed: then its policy was the champion's."""
    champion = case.commit(TWO_PEOPLE)
    case.served("one", champion)
    found = case.of(case.commit({"deployment": {"approval": None}}))
    assert found.needed and found.guarded and found.rules.approvers == (EVE, BOB)
    assert champion[:12] in found.rules.where and champion[:12] in found.because
    assert found.loosened == ("approval dropped: no person has to approve",)


def test_who_was_added_to_the_approvers_may_not_approve_that(case: Case) -> None:
    case.served("one", case.commit({"deployment": {"approval": {"approvers": [EVE]}}}))
    assert case.of(case.commit(TWO_PEOPLE)).rules.approvers == (EVE,)


def test_stricter_rules_of_the_commit_apply_to_what_it_loosens_elsewhere(case: Case) -> None:
    case.served("one", case.commit(TWO_PEOPLE))
    found = case.of(case.commit({**NO_GATES, "deployment": {"approval": {"approvers": [EVE]}}}))
    assert found.guarded and found.rules.approvers == (EVE,) and found.because == ""


def test_where_nobody_had_to_approve_a_loosening_is_named_and_that_is_all(case: Case) -> None:
    case.served("one", case.commit({"training": {"max_steps": 3}}))
    found = case.of(case.commit(NO_GATES))
    assert not found.needed and len(found.loosened) == 1 and found.loosened[0].startswith("gate removed: perplexity")
    assert found.notes == (f"loosened since the champion: {found.loosened[0]}",)


def test_a_tightening_that_released_nothing_is_not_taken_back_in_silence(case: Case) -> None:
    """A commit that only tightens policy deploys nothing, so the next one was compared with a champion that had asked
    for nobody: it could drop the approval that the team had just agreed on, and nothing was said."""
    case.served("one", case.commit({"training": {"max_steps": 3}}))
    tight = case.merged({"deployment": {"approval": {"approvers": [EVE]}}})
    again = case.merged({"deployment": {"approval": None}})
    for sha in (again, case.commit({"training": {"max_steps": 5}})):
        found = case.of(sha)
        assert (found.needed, found.guarded, found.rules.approvers) == (True, True, ())
        text = f"approval dropped: no person has to approve (since {tight[:12]}, which was merged and not released)"
        assert found.loosened == (text,)
        assert f"a person must approve it, as {tight[:12]} of the watched branch asks" in found.notes


def test_a_misspelt_approver_who_released_nothing_does_not_lock_the_project(case: Case) -> None:
    """Its own rules say who approves the correction: under those of the mistake nobody could."""
    case.served("one", case.commit({"training": {"max_steps": 3}}))
    case.merged({"deployment": {"approval": {"approvers": ["eve@exmaple.com"]}}})
    found = case.of(case.commit({"deployment": {"approval": {"approvers": [EVE]}}}))
    assert found.needed and found.rules.approvers == (EVE,) and found.rules.where == "llmops.yaml"
    assert [text.split(" (")[0] for text in found.loosened] == [f"approvers widened: {EVE} added"]


@pytest.mark.parametrize("status", ["superseded", "rejected", "waiting", "failed"])
def test_a_policy_that_was_not_accepted_counts_for_nothing(case: Case, status: Status) -> None:
    case.served("one", case.commit({"training": {"max_steps": 3}}))
    case.merged({"deployment": {"approval": {"approvers": [EVE]}}}, status)
    assert not case.of(case.commit({"deployment": {"approval": None}})).needed


def test_what_a_release_was_made_under_replaces_what_was_merged_before_and_so_does_a_rewound_branch(case: Case) -> None:
    case.served("one", case.commit({"training": {"max_steps": 3}}))
    case.merged({"deployment": {"approval": {"approvers": [EVE]}}})
    released = case.merged({"deployment": {"approval": None}}, "released")
    case.served("two", released)
    assert not case.of(case.commit({"training": {"max_steps": 5}})).needed, "a person has accepted that"
    case.merged({"deployment": {"review": {"approvers": [EVE]}}})
    found = case.of(case.commit({"deployment": {"review": None}}))
    assert found.review is not None and found.review.approvers == () and not found.needed
    case.project.git("reset", "--quiet", "--hard", "HEAD~2")
    case.project.git("push", "--quiet", "--force", "origin", "main")
    assert case.of(case.commit({"training": {"max_steps": 6}})).review is None


def test_a_rollback_to_a_time_before_approvals_does_not_abolish_them(case: Case) -> None:
    first = case.commit({"training": {"max_steps": 3}})
    case.served("one", first)
    case.served("two", case.commit(TWO_PEOPLE))
    case.served("one", first)
    found = case.of(case.commit({"deployment": {"approval": None}}))
    assert found.needed and found.rules.approvers == (EVE, BOB)
    assert not case.of(first).needed, "the champion itself is compared with nothing"


def test_a_champion_whose_policy_cannot_be_read_needs_a_person(case: Case) -> None:
    """What cannot be compared may be a loosening."""
    case.served("one", "0" * 40)
    found = case.of(case.commit(NO_GATES))
    assert (
        found.needed and found.guarded and "cannot be read" in found.because and "cannot be read" in found.loosened[0]
    )


def test_a_commit_outside_the_watched_branch_is_not_deployed_and_the_reason_says_how_to(case: Case) -> None:
    sha = case.commit(NO_GATES)
    assert not_on_branch(case.source, sha) is None
    case.project.git("push", "--quiet", "--force", "origin", "HEAD~1:main", "HEAD:refs/heads/feature")
    case.source.git.fetch()
    said = not_on_branch(case.source, sha)
    assert said is not None and "'main'" in said and "merge it into main and push" in said
