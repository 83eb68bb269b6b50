"""What may be released: the story of a project whose commits try to get round its checks, its policy and its people.

Each test continues from the one before.
"""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.delivery.approvals import decide
from llmops_assets.domain.policy_floor import PolicyFloor
from tests.support.projects import LIGHT, Outcome, Project, Watched, World, rows, write_rows
from tests.support.waiting import CEILING_S, wait_for

EVE, BOB = "eve@example.com", "bob@example.com"
EVALUATED = {"ci_report", "evaluation_report", "served_evaluation_report"}
GOOD_TEST = "def test_two_and_two_are_four():\n    assert 2 + 2 == 4\n"
GATE = {"metric": "rougeL", "at_least": 0.0}


class Case(Watched):
    """A project with a release in production."""

    def ship(self, message: str, change: dict[str, Any] | None = None) -> Outcome:
        self.project.ship(message, change)
        return self.world.settle()

    def prompt(self, text: str) -> None:
        self.project.write("prompts/ask.jinja", text + " {{ input }}\n")

    def refusal(self, stage: str, **config: Any) -> str:
        """Materializes one stage in Dagster's launchpad; returns why it refuses."""
        run_config = {"ops": {f"zoo__{stage}": {"config": config}}} if config else None
        return Outcome.of(self.world.materialize("zoo", stage, config=run_config)).refusals[stage]

    def plan(self, *words: str) -> str:
        code, said = self.world.llmops("plan", *words)
        assert code == 0, said
        return said

    def approve(self, user: str = EVE) -> tuple[int, str]:
        return self.world.llmops("approve", "--reason", "I looked at it", user=user)


@pytest.fixture(scope="module")
def case(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> Iterator[Case]:
    project = make_project()
    case = Case(project, make_world(project, computed=computed))
    outcome = case.ship("Light", LIGHT)
    assert outcome.failures == "" and case.request.status == "released"
    yield case


def test_a_new_prompt_with_failing_tests_is_not_released(case: Case) -> None:
    """Only training judged the project's tests: a new prompt trains nothing, so it was released with failed tests."""
    champion = case.production
    case.project.write("tests/test_nothing_is_broken.py", GOOD_TEST.replace("4", "5"))
    case.prompt("Say:")
    outcome = case.ship("A new prompt, and a test that fails")
    assert case.production == champion
    assert case.request.status == "rejected", case.request.detail
    assert "staging_endpoint: " in case.request.detail and "1 failed" in case.request.detail
    assert "staging_endpoint" not in outcome.materialized
    said = case.plan()
    assert "refuse" in said and "1 failed" in said
    for stage in ("staging_endpoint", "production_endpoint"):
        assert "1 failed" in case.refusal(stage), f"{stage} alone judges it too"
    case.project.write("tests/test_nothing_is_broken.py", GOOD_TEST)
    outcome = case.ship("The test passes again")
    assert case.request.status == "released" and case.production != champion
    assert outcome.computed.isdisjoint({"evaluation_report", "served_evaluation_report"}), "its evaluation is reused"


def test_rows_that_leaked_into_training_are_not_released_by_the_next_push(case: Case) -> None:
    """The first push was rejected. The next one changed only the prompt, reused the checkpoint, and was released."""
    champion = case.production
    write_rows(case.project.folder / "data/test.jsonl", rows(8))
    case.project.dvc_add("data/test.jsonl")
    case.ship("Test rows that were trained on")
    assert case.request.status == "rejected" and "leak" in case.request.detail
    case.prompt("Tell me:")
    outcome = case.ship("Only another prompt")
    assert case.request.status == "rejected" and "leak" in case.request.detail
    assert case.production == champion and "staging_endpoint" not in outcome.materialized
    assert "refuse" in case.plan()
    write_rows(case.project.folder / "data/test.jsonl", rows(8, start=1000))
    case.project.dvc_add("data/test.jsonl")
    case.ship("The held-out rows again")
    assert case.request.status == "released" and case.production != champion


def test_a_branch_is_evaluated_but_neither_staged_nor_deployed_until_it_is_merged(case: Case) -> None:
    """`llmops run --revision` put a commit that nobody had merged into production."""
    project, before = case.project, (case.production, case.world.ledger.serving("zoo", "staging"))
    project.git("checkout", "--quiet", "-b", "feature")
    case.prompt("Answer:")
    aside = project.commit("On a branch")
    project.git("push", "--quiet", "origin", "feature")
    project.git("checkout", "--quiet", "main")
    code, said = case.world.llmops("run", "--revision", "feature", "--wait")
    assert code == 0, said
    assert "is not in the watched branch 'main', so it is evaluated but not deployed" in said
    records = case.world.ledger.records_of("zoo", aside)
    assert "served_evaluation_report" in records and "staging_endpoint" not in records
    for stage in ("staging_endpoint", "production_endpoint"):
        assert "is not in the watched branch" in case.refusal(stage, revision=aside)
    assert case.production == before[0]
    assert (now := case.world.ledger.serving("zoo", "staging")) and before[1] and now.release == before[1].release
    assert case.world.settle().runs == [], "the branch's run does not hide or replace a change of the watched branch"
    project.git("merge", "--quiet", "--ff-only", "feature")
    project.push()
    outcome = case.world.settle()
    assert case.request.status == "released" and case.production != before[0]
    assert not outcome.computed & EVALUATED, "all results are reused"


def test_a_commit_cannot_abolish_its_own_approval(case: Case) -> None:
    """Policy was read from the candidate alone: a commit that dropped `approval` and `gates` released itself."""
    strict = {"approval": {"approvers": [EVE]}, "serving": {"max_tokens": 101}}
    case.ship("Ask Eve", {"deployment": strict})
    assert case.request.status == "waiting" and case.approve()[0] == 0
    case.world.settle()
    champion, sha = case.production, case.request.revision[:12]
    loose = {"gates": [], "deployment": {"approval": None, "serving": {"max_tokens": 102}}}
    case.ship("Nobody has to look at it", loose)
    assert case.production == champion and case.request.status == "waiting"
    for place in (case.request.detail, case.plan()):
        assert "approval dropped" in place and "gate removed: rougeL of checkpoint at least 0" in place
        assert f"under the rules of the champion's policy ({sha})" in place
    code, said = case.approve(BOB)
    assert code == 1 and f"{BOB} is not in deployment.approval.approvers of {sha}, the champion's policy" in said
    assert "no release_approval" in case.refusal("production_endpoint")
    assert case.approve()[0] == 0
    case.world.settle()
    assert case.request.status == "released" and case.production != champion
    code, said = case.world.llmops("reject", "--reason", "too late")
    assert code == 1 and "already serves production; `llmops rollback zoo` moves traffic back" in said
    verdicts = [v for s, v in case.world.ledger.verdicts("zoo", case.request.revision) if s == "production_endpoint"]
    assert any("approval dropped: no person has to approve" in v.loosened for v in verdicts)


def test_a_rejection_after_the_approval_counts(case: Case) -> None:
    """`llmops reject` was refused once a release was approved, although it did not serve production yet."""
    champion = case.production
    case.ship(
        "Ask Eve again",
        {"gates": [GATE], "deployment": {"approval": {"approvers": [EVE]}, "serving": {"max_tokens": 103}}},
    )
    assert case.request.status == "waiting" and case.approve()[0] == 0
    code, said = case.world.llmops("reject", "--reason", "too terse after all")
    assert code == 0, said
    outcome = case.world.settle()
    assert case.production == champion and "production_endpoint" not in outcome.materialized
    assert case.request.status == "rejected"
    assert "rejected by eve@example.com: too terse after all" in case.request.detail
    assert case.world.settle().runs == []


def test_a_rejection_during_the_rollout_returns_all_traffic(case: Case) -> None:
    champion, ledger = case.production, case.world.ledger
    slow = {"steps": [{"weight": "50%", "hold": "60s"}]}
    case.ship("With a long step", {"deployment": {"rollout": slow, "serving": {"max_tokens": 104}}})
    assert case.request.status == "waiting" and case.approve()[0] == 0

    def reject_while_it_moves() -> None:
        wait_for("the rollout", lambda: case.world.clients.serving.weights("zoo", "production").get(champion) == 0.5)
        decide(case.world.source(), ledger, "rejected", EVE, "users complain")

    person = threading.Thread(target=reject_while_it_moves)
    person.start()
    case.world.settle()
    person.join(CEILING_S)
    assert case.production == champion
    assert case.world.clients.serving.weights("zoo", "production") == {champion: 1.0}
    assert case.request.status == "rejected" and "users complain" in case.request.detail
    code, said = case.world.llmops("reject", "--reason", "again")
    assert code == 0, said


def test_no_commit_gets_below_the_floor_that_the_settings_set(case: Case) -> None:
    """A team could switch off what its organization requires of every release."""
    floor = PolicyFloor.model_validate(
        {"approval": {"approvers": [EVE, "carl@example.com"]}, "gates": [{"metric": "rougeL", "at_least": 0.99}]}
    )
    case.world = World(case.world.home, case.project, serving=case.world.settings.serving, policy=floor)
    champion = case.production
    below = {"approval": {"approvers": [BOB]}, "serving": {"max_tokens": 106}}
    case.ship("Ask Bob only", {"gates": [GATE], "deployment": below})
    assert (
        case.request.status == "rejected" and "rougeL" in case.request.detail and "minimum 0.99" in case.request.detail
    )
    assert case.production == champion
    code, said = case.world.llmops("check")
    assert code == 1 and "below the policy floor" in said
    assert f"deployment.approval.approvers: {BOB} may not approve" in said and "at least 0.99 → 0" in said
    said = case.plan()
    assert "policy floor applies" in said and f"{BOB} may not approve" in said and "minimum 0.99" in said


def test_a_rollback_does_not_get_below_the_floor_either(case: Case) -> None:
    """A release that served before the floor was raised returned to production, by anyone, whatever it measured."""
    champion = case.production
    code, said = case.world.llmops("rollback", "--reason", "cut short")
    assert code == 1 and "below the policy floor of the settings" in said and "minimum 0.99" in said, said
    assert case.production == champion and case.world.ledger.holds("zoo") == []
    code, said = case.world.llmops("releases")
    assert code == 0 and "there is no release to roll back to" in said, said
    assert "by the settings' policy floor: " in said and "minimum 0.99" in said
    people = PolicyFloor.model_validate({"approval": {"approvers": [EVE, "carl@example.com"]}})
    case.world = World(case.world.home, case.project, serving=case.world.settings.serving, policy=people)
    served = [release for release, _, _ in case.world.ledger.served("zoo")]
    code, said = case.world.llmops("rollback", "--to", served[0], "--reason", "the first was better", user=BOB)
    assert code == 1 and "must approve each release; nobody did so" in said and case.production == champion, said
    code, said = case.world.llmops("releases", "--json", user=BOB)
    lines = {one["release"]: one for one in json.loads(said)}
    assert not lines[served[0]]["can_roll_back_to"] and "nobody did so" in lines[served[0]]["below_floor"][0]
    assert lines[served[-2]]["can_roll_back_to"] and lines[served[-2]]["rollback_target"]
    code, said = case.world.llmops("rollback", "--reason", "cut short", user=BOB)
    assert code == 0 and case.production == served[-2], f"Eve approved it before it served: {said}"
