"""A run that costs more than its budget waits for a person, however it is launched; and runs of some stages only.

The story of one project, whose hours have a price. Each test continues from the one before.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llmops_assets.config.compute import ComputeSettings
from llmops_assets.delivery.run_tags import REQUEST_TAG
from resources.compute.interface import hardware_class
from tests.support.projects import LIGHT, Outcome, Project, Watched, World

ADA, EVE = "ada@example.com", "eve@example.com"
PER_SECOND = {hardware_class(): 3600.0}
"""A price of one for each second, so that costs read as seconds."""


class Case(Watched):
    number = 0

    def ship(self, message: str, change: dict[str, Any] | None = None) -> Outcome:
        """Ships a new test of the project, whose only cost is a ci_report."""
        Case.number += 1
        self.project.write("tests/test_more.py", f"def test_more():\n    assert {Case.number}\n")
        self.project.ship(message, change)
        return self.world.settle()

    def decide(self, **config: str) -> dg.ExecuteInProcessResult:
        """A decision in the launchpad of ci_report."""
        return self.world.materialize("zoo", "ci_report", config={"ops": {"zoo__ci_report": {"config": config}}})

    def llmops(self, *words: str, who: str = EVE) -> tuple[int, str]:
        return self.world.llmops(*words, user=who)

    @property
    def tags(self) -> dict[str, str]:
        """Those of the newest request's run."""
        (run,) = self.world.instance.get_runs(filters=dg.RunsFilter(tags={REQUEST_TAG: self.request.name}))
        return dict(run.tags)


@pytest.fixture(scope="module")
def case(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> Case:
    project = make_project()
    project.configure({**LIGHT, "ci": {"tests": False, "ruff": False}, "budget": {"max_cost": {"run": 0}}})
    compute = ComputeSettings(threads=1, price_per_hour=PER_SECOND)
    return Case(project, make_world(project, computed=computed, compute=compute, dagster_on_disk=True))


def test_a_run_over_its_budget_computes_nothing_and_says_how_to_approve_it(case: Case) -> None:
    outcome = case.ship("Nothing may cost anything")
    assert outcome.failures == "" and outcome.materialized == set()
    sha = case.request.revision[:12]
    assert case.request.status == "waiting"
    for said in (case.request.detail, outcome.skips["zoo:recovery"], case.llmops("plan")[1], case.llmops("status")[1]):
        assert "waiting for a decision on its budget by a person who is no author of the change" in said
        assert "budget.max_cost.run is 0 USD; this run may cost up to " in said
        assert f"`llmops approve zoo --budget {sha} --reason WHY`" in said
    found = json.loads(case.llmops("plan", "--json")[1])
    assert found["budget"]["waits"] and found["budget"]["limits"] == {"run": 0.0}
    assert found["estimate"]["cost"]["high"] == pytest.approx(found["budget"]["cost"], rel=1e-6)
    assert case.world.settle().runs == [], "it waits, and is not tried again"


@pytest.mark.parametrize(
    ("words", "who", "code", "expected"),
    [
        (("--reason", "it is cheap"), ADA, 1, f"{ADA} is an author of this change"),
        (("--reason", "fine", "--budget", "feedc0ffee"), EVE, 1, "feedc0ffee of zoo does not wait"),
        (("--reason", "fine", "--budget", "fee"), EVE, 1, "at least its first 6 characters"),
        (("--reason", "fine", "--budget", "feedc0", "--release", "feedc0"), EVE, 2, "give one of them"),
        (("--reason", "fine", "--release", "feedc0ffee"), EVE, 1, "has no release yet, it is waiting for a decision"),
        (("--reason", " "), EVE, 1, "needs a reason"),
    ],
)
def test_a_decision_that_does_not_count_changes_nothing(
    case: Case, words: tuple[str, ...], who: str, code: int, expected: str
) -> None:
    found, said = case.llmops("approve", *words, who=who)
    assert (found, expected in said) == (code, True), said
    assert case.request.status == "waiting" and case.world.settle().runs == []


def test_approved_by_the_command_that_it_printed_it_runs_as_planned(case: Case) -> None:
    command = re.search(r"`llmops (approve .*?)`", case.request.detail)
    assert command is not None
    code, said = case.llmops(*command[1].replace("WHY", "worth-it").split())
    assert code == 0 and "may cost up to" in said and "approved by eve@example.com" in said, said
    outcome = case.world.settle()
    assert outcome.failures == "" and case.request.status == "released"
    assert f"budget approved by {EVE}: worth-it" in case.request.reason
    assert "ci_report" in outcome.computed and "fine_tuned_checkpoint" not in outcome.computed


def test_a_click_on_one_asset_is_held_up_like_a_run(case: Case) -> None:
    case.project.write("tests/test_more.py", "def test_more():\n    assert 'clicked'\n")
    case.project.ship("Clicked")
    result = case.world.materialize("zoo", "ci_report")
    (check,) = result.get_asset_check_evaluations()
    assert "waiting for a decision on its budget" in (check.description or "") and not check.passed
    assert Outcome.of(result).materialized == set()


def test_a_decision_in_dagsters_launchpad_counts_as_one_at_a_terminal(case: Case) -> None:
    case.world.settle()
    sha, reason = case.request.revision[:12], "worth it"
    assert case.request.status == "waiting"
    for config, told in (
        ({"budget": sha, "reason": reason, "by": ADA}, f"{ADA} is an author of this change"),
        ({"reason": reason, "by": EVE}, "at least its first 6 characters"),
        ({"budget": "feedc0ffee", "reason": reason, "by": EVE}, "feedc0ffee of zoo does not wait"),
        ({"budget": sha, "by": EVE}, "a decision needs a reason"),
    ):
        refused = case.decide(decision="approve", **config)
        assert not refused.success and told in Outcome.of(refused).failures, Outcome.of(refused).failures
    assert case.request.status == "waiting" and case.world.settle().runs == []
    approved = case.decide(decision="approve", budget=sha, reason=reason, by=EVE)
    assert approved.success and Outcome.of(approved).computed == {"ci_report"}
    outcome = case.world.settle()
    assert outcome.failures == "" and case.request.status == "done", "the click has computed what it waited for"
    (decision,) = case.world.ledger.budget_decisions("zoo", case.request.revision)
    assert (decision.choice, decision.by, decision.reason) == ("approved", EVE, reason)


def test_a_rejection_in_dagsters_launchpad_closes_the_request(case: Case) -> None:
    champion = case.production
    case.ship("Rejected by a click")
    rejected = case.decide(decision="reject", budget=case.request.revision[:8], reason="not now", by=EVE)
    assert rejected.success and Outcome.of(rejected).materialized == set()
    (check,) = rejected.get_asset_check_evaluations()
    assert (check.passed, check.description) == (False, f"rejected by {EVE}: not now")
    assert case.request.status == "rejected" and "not now" in case.request.detail
    assert case.world.settle().runs == [] and case.production == champion


def test_a_commit_that_raises_its_own_budget_needs_a_person_and_a_rejection_ends_it(case: Case) -> None:
    champion = case.production
    outcome = case.ship("Much more", {"budget": {"max_cost": {"run": 1.0e6}}})
    assert outcome.materialized == set() and case.request.status == "waiting"
    assert "the budget of the champion's policy applies" in case.request.detail
    assert "budget raised: max_cost.run 0 → 1,000,000" in case.llmops("plan")[1]
    code, said = case.llmops("reject", "--reason", "too much")
    assert code == 0 and "is rejected by eve@example.com" in said, said
    assert case.request.status == "rejected" and case.world.settle().runs == [] and case.production == champion


def test_what_the_month_cost_comes_from_the_ledger(case: Case) -> None:
    case.ship("A month", {"budget": {"max_cost": {"run": None, "month": 1}}})
    found = json.loads(case.llmops("plan", "--json")[1])["budget"]
    work = {(r.made_by.run_id, r.stage): r.made_by.seconds for _, r in case.world.ledger.work_since("zoo", 0.0)}
    chain = ["ci_report", "container_image", "dataset_version", "fine_tuned_checkpoint", "evaluation_report",
             "registered_model", "quantized_artifact", "served_evaluation_report"]  # fmt: skip
    spent = sum(seconds for (_, stage), seconds in work.items() if stage in chain)
    assert found["spent"]["month"] == pytest.approx(spent) and spent > 1
    assert (
        "budget.max_cost.month is 1 USD;" in case.request.detail and "were spent, and this run" in case.request.detail
    )
    assert "max_cost.run is 0 USD" in case.request.detail, "the champion's limit holds too"


def test_a_revert_computes_nothing_and_never_waits(case: Case) -> None:
    sha = case.world.ledger.serving("zoo", "production").revision  # type: ignore[union-attr]
    case.project.git("checkout", "--quiet", sha, "--", ".")
    case.project.ship("Back again")
    outcome = case.world.settle()
    assert outcome.computed == set() and case.request.status in ("done", "released", "skipped"), case.request
