"""Human review of evaluation reports: the story of a project whose models wait until a person accepted their report.

Each test continues from the one before. Approvals of releases are in test_approval.py.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llmops_assets.config.notifications import NotificationTarget
from llmops_assets.delivery.report_reviews import review_state
from llmops_assets.domain.report_review import ReviewDecision
from resources.tracking.mlflow import OUTCOME_TAG, WAITS_TAG
from tests.support.projects import LIGHT, Outcome, Project, Watched, World
from tests.support.receivers import HttpReceiver, http_receiver
from tests.support.waiting import wait_for

ADA, EVE, BOB = "ada@example.com", "eve@example.com", "bob@example.com"
FROM_REGISTRATION = {"registered_model", "quantized_artifact", "staging_endpoint", "production_endpoint"}


class Case(Watched):
    def ship(self, message: str, change: dict[str, Any] | None = None) -> Outcome:
        self.project.ship(message, change)
        return self.world.settle()

    def prompt(self, text: str) -> Outcome:
        """Ships another serving prompt: the checkpoint and its registration stay, the report is new."""
        self.project.write("prompts/ask.jinja", text + " {{ input }}\n")
        return self.ship(f"Prompt {text!r}")

    @property
    def report(self) -> str:
        ask = review_state(self.world.source(), self.world.ledger, self.request.revision).ask
        assert ask is not None
        return ask.report

    def llmops(self, *words: str, who: str = EVE) -> tuple[int, str]:
        return self.world.llmops(*words, user=who)

    def accept(self) -> Outcome:
        code, said = self.llmops("approve", "--reason", "the answers are fine")
        assert code == 0, said
        return self.world.settle()

    def decide(self, **config: str) -> dg.ExecuteInProcessResult:
        """Materializes registered_model as Dagster's launchpad does with this config."""
        run_config = {"ops": {"zoo__registered_model": {"config": config}}}
        return self.world.materialize("zoo", "registered_model", config=run_config)


def accepted_check(*runs: dg.ExecuteInProcessResult) -> Any:
    (check,) = [e for r in runs for e in r.get_asset_check_evaluations() if e.check_name == "accepted"]
    return check


@pytest.fixture(scope="module")
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


@pytest.fixture(scope="module")
def case(
    make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path, receiver: HttpReceiver
) -> Case:
    project = make_project()
    project.configure({**LIGHT, "ci": {"tests": False, "ruff": False}})
    hook = NotificationTarget(name="hook", via="cloudevents", to=receiver.url)
    case = Case(project, make_world(project, computed=computed, notifications=(hook,)))
    case.world.tick("zoo_notifications")  # from now on the target is told
    return case


def test_a_model_waits_for_the_review_of_its_report_and_nothing_after_it_runs(case: Case) -> None:
    """The checkpoint is registered already, by a commit that needed no review: its registration does not pass."""
    outcome = case.ship("Ask Eve", {"deployment": {"review": {"approvers": [EVE]}}})
    assert [r.success for r in outcome.runs] == [True]
    assert not outcome.materialized & FROM_REGISTRATION
    check = accepted_check(*outcome.runs)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    report = case.report[:12]
    for said in (check.description or "", case.request.detail, case.llmops("status")[1], outcome.skips["zoo:recovery"]):
        assert f"waiting for review of evaluation report {report} by {EVE}" in said
        assert f"llmops approve zoo --report {report} --reason WHY" in said
        assert f"llmops review zoo {case.request.revision[:12]}" in said
    assert case.request.status == "waiting" and case.world.ledger.serving("zoo", "staging") is None
    values = case.world.source().at(case.request.revision).values
    run = case.world.clients.tracking.find("zoo", case.world.ledger.resolve(values).keys["evaluation_report"])
    tags = case.world.clients.tracking.tags(run)
    assert tags[OUTCOME_TAG] == "waiting" and tags[WAITS_TAG] == case.request.detail
    alone = Outcome.of(case.world.materialize("zoo", "quantized_artifact")).refusals["quantized_artifact"]
    assert f"nobody has reviewed its report; required: {EVE}" in alone


def test_the_report_is_printed_with_the_commands_that_decide(case: Case) -> None:
    code, said = case.llmops("review")
    assert code == 0, said
    report = case.report[:12]
    lines = said.splitlines()
    assert lines[2] == "" and lines[3] == "evaluation_report: passed" and "held: rougeL" in lines[4]
    assert lines[-2].split(maxsplit=1) == ["approve", f"llmops approve zoo --report {report} --reason WHY"]
    assert lines[-1].split(maxsplit=1) == ["reject", f"llmops reject zoo --report {report} --reason WHY"]
    for subject in (case.request.name, case.request.revision[:10], report):
        code, told = case.llmops("review", "zoo", subject, "--json")
        found = json.loads(told)
        assert code == 0 and found["revision"] == case.request.revision
        assert found["decisions"][0]["state"] == "waiting" and found["authors"] == ["Ada <ada@example.com>"]


@pytest.mark.parametrize(
    ("words", "who", "code", "expected"),
    [
        (("--reason", "mine is fine"), ADA, 1, "ada@example.com is an author of this change"),
        (("--reason", "fine"), BOB, 1, f"{BOB} is not in deployment.review.approvers of llmops.yaml ({EVE})"),
        (("--reason", "fine", "--report", "feedc0ffee"), EVE, 1, "report feedc0ffee does not wait for review"),
        (("--reason", "fine", "--release", "feedc0ffee"), EVE, 1, "has no release yet, it is waiting for review"),
        (("--reason", "fine", "--release", "feedc0ff", "--report", "feedc0ff"), EVE, 2, "give one of them"),
        (("--reason", " "), EVE, 1, "needs a reason"),
    ],
)
def test_an_invalid_review_is_refused_and_changes_nothing(
    case: Case, words: tuple[str, ...], who: str, code: int, expected: str
) -> None:
    found, said = case.llmops("approve", *words, who=who)
    assert (found, expected in said) == (code, True), said
    assert case.request.status == "waiting" and case.world.settle().runs == []


def test_it_waits_through_a_restart_and_once_accepted_the_chain_continues(case: Case) -> None:
    settings = case.world.settings
    case.world = World(case.world.home, case.project, serving=settings.serving, notifications=settings.notifications)
    assert case.world.settle().runs == [] and case.request.status == "waiting"
    outcome = case.accept()
    assert outcome.failures == "" and case.request.status == "released"
    assert "reviewed by eve@example.com: the answers are fine" in case.request.reason
    assert accepted_check(*outcome.runs).passed
    assert not outcome.computed & {"evaluation_report", "fine_tuned_checkpoint", "registered_model"}


def test_a_commit_that_reuses_the_reviewed_report_needs_no_other_review(case: Case) -> None:
    """It is the reviewer's own commit: what the review led to is not undone by that."""
    case.project.git("config", "user.email", EVE)
    outcome = case.ship("Shorter answers", {"deployment": {"serving": {"max_tokens": 90}}})
    case.project.git("config", "user.email", ADA)
    assert case.request.status == "released" and "registered_model" not in outcome.materialized


def test_a_new_prompt_makes_a_new_report_that_needs_a_review_of_its_own(case: Case) -> None:
    champion = case.production
    outcome = case.prompt("Say:")
    assert "evaluation_report" in outcome.computed and not outcome.materialized & FROM_REGISTRATION
    assert "served_evaluation_report" not in outcome.materialized, "its turn comes after the review"
    assert case.request.status == "waiting" and case.production == champion
    # An acceptance that expired before the model was registered counts for nothing.
    state = review_state(case.world.source(), case.world.ledger, case.request.revision)
    given = {"ask": state.ask, "revision": case.request.revision, "choice": "approved", "by": EVE, "reason": "old"}
    case.world.ledger.review(ReviewDecision(**given, at=time.time() - 8 * 86400))
    assert case.world.settle().runs == []
    click = case.world.materialize("zoo", "registered_model")
    assert "approved by eve@example.com, not valid: it expired" in (accepted_check(click).description or "")
    said = case.llmops("review", "zoo")[1]
    assert "by rougeL:" in said and f"champion {champion[:12]}" in said
    assert (" 0 rows lost" in said) != ("`llmops must-pass ROW zoo --revision" in said)


def test_a_rejection_ends_the_candidate(case: Case) -> None:
    champion = case.production
    code, said = case.llmops("reject", "--reason", "it invents animals")
    assert code == 0 and "is rejected by eve@example.com; production is unchanged" in said
    assert (case.request.status, case.request.detail) == ("rejected", f"rejected by {EVE}: it invents animals")
    outcome = case.world.settle()
    assert outcome.runs == [] and "it invents animals" in outcome.skips["zoo:git"] and case.production == champion
    plan = case.llmops("plan")[1]
    assert "refuse" in plan and "it invents animals" in plan


def test_in_dagsters_launchpad_a_review_counts_as_one_at_a_terminal_and_a_later_rejection_counts(case: Case) -> None:
    champion = case.production
    case.prompt("Tell me:")
    report = case.report[:12]
    result = case.decide(decision="approve", report=report, reason="fine", by=ADA)
    failure = result.failure_data_for_node("zoo__registered_model").user_failure_data
    assert failure is not None and "is an author of this change" in (failure.description or "")
    click = case.decide(decision="approve", report=report, reason="fine", by=EVE)
    assert click.success and click.asset_materializations_for_node("zoo__registered_model")
    code, said = case.llmops("reject", "--report", report, "--reason", "I looked again")
    assert code == 0, said
    outcome = case.world.settle()
    assert not outcome.materialized & {"staging_endpoint", "production_endpoint"} and case.production == champion
    assert case.request.status == "rejected" and "I looked again" in case.request.detail
    alone = Outcome.of(case.world.materialize("zoo", "quantized_artifact")).refusals["quantized_artifact"]
    assert "I looked again" in alone


def test_two_reviews_are_those_of_two_people(case: Case) -> None:
    case.project.write("prompts/ask.jinja", "Answer: {{ input }}\n")
    two = {"approvers": [EVE, BOB], "count": 2, "expires_after": "1d"}
    case.ship("Two people", {"deployment": {"review": two}})
    assert f"by {EVE} and" not in case.request.detail
    assert "reviewers widened: bob@example.com added" in case.request.detail
    sha = case.world.ledger.serving("zoo", "production").revision[:12]  # type: ignore[union-attr]
    assert f"its report is reviewed under the rules of the champion's policy ({sha})" in case.request.detail
    code, said = case.llmops("approve", "--reason", "fine", who=BOB)
    assert code == 1 and f"{BOB} is not in deployment.review.approvers of {sha}, the champion's policy" in said
    outcome = case.accept()
    assert outcome.failures == "" and case.request.status == "released", "Eve alone, by the rules of the champion"
    case.prompt("And now:")
    for _ in range(2):
        code, said = case.llmops("approve", "--reason", "fine")
        assert code == 0 and f"accepted by {EVE}: 1 of 2 reviews" in said
    assert case.world.settle().runs == [] and case.request.status == "waiting"
    code, said = case.llmops("approve", "--reason", "fine too", "--wait", who=BOB)
    assert code == 0 and "is released" in said, said
    assert "reviewed by eve@example.com: fine; reviewed by bob@example.com: fine too" in case.request.reason


def test_a_commit_cannot_abolish_its_own_review(case: Case) -> None:
    case.project.write("prompts/ask.jinja", "Well: {{ input }}\n")
    case.ship("Nobody has to look at it", {"deployment": {"review": None}})
    for said in (case.request.detail, case.llmops("plan")[1], case.llmops("review")[1]):
        assert "review dropped: no person has to accept the evaluation report" in said
        assert "under the rules of the champion's policy" in said


def test_another_report_of_a_registered_checkpoint_is_reviewed_once_a_release_stands_on_it(case: Case) -> None:
    """Other metrics change no release, so nobody is asked; what was accepted before was another report."""
    case.project.write("prompts/ask.jinja", "And now: {{ input }}\n")
    two = {"approvers": [EVE, BOB], "count": 2, "expires_after": "1d"}
    metrics = {"evaluation": {"metrics": ["rougeL", "exact_match"]}}
    outcome = case.ship("Another metric", {"deployment": {"review": two}, **metrics})
    assert case.request.status == "done" and "evaluation_report" in outcome.computed, case.request.detail
    report = case.report
    outcome = case.ship("Longer answers", {"deployment": {"serving": {"max_tokens": 91}}})
    assert (case.request.status, case.report) == ("waiting", report), case.request.detail
    assert f"waiting for review of evaluation report {report[:12]}" in case.request.detail
    assert not outcome.materialized & {*FROM_REGISTRATION, "served_evaluation_report"}


def test_every_review_stands_in_the_audit_trail(case: Case) -> None:
    code, said = case.llmops("audit", "--json", "--last", "0")
    found = json.loads(said)
    assert code == 0 and found["verified"]
    kinds = [e["event"] for e in found["events"]]
    assert {"review approved", "review rejected", "registered on review"} <= set(kinds)


def test_what_happened_reached_a_real_receiver_once_each(case: Case, receiver: HttpReceiver) -> None:
    """Sent by the sensor of the code location, and by commands that ended a run of their own."""

    def told() -> bool:
        said = case.world.tick("zoo_notifications")[0] or ""
        return said == "nothing to send"

    wait_for("the last notification", told)
    events = [(body["type"], body["subject"], body["data"]) for body in receiver.bodies]
    assert len({body["id"] for body in receiver.bodies}) == len(events)
    requests = case.world.ledger.requests("zoo")
    for status in ("rejected", "released"):
        ended = sorted((r.revision, r.detail) for r in requests if r.status == status)
        shown = sorted((subject, data["detail"]) for kind, subject, data in events if kind == f"llmops.{status}")
        assert shown == ended and len(ended) > 1
    (invented,) = [data for _, _, data in events if data["detail"] == f"rejected by {EVE}: it invents animals"]
    assert invented["command"] == "llmops status zoo" and "Prompt 'Say:'" in invented["subject"]
