"""What a code host shows of a commit follows from the ledger, and nothing that was not reached looks like a pass."""

from typing import Any

import pytest

from llmops_assets.domain.answers import UNANSWERED, GroupAnswer, Progress, group_answers, groups, newest_of_each
from llmops_assets.domain.chain import CHAIN
from llmops_assets.domain.requests import EVALUATION, PARTIAL, Request, Status
from llmops_assets.domain.rollout import RolloutState
from llmops_assets.domain.verdict import Verdict

A, B = "a" * 40, "b" * 40
STAGES = tuple(s.name for s in CHAIN if s.name not in UNANSWERED)


def request(status: Status, detail: str = "", **fields: Any) -> Request:
    given = {"project": "zoo", "revision": A, "generation": 1, "reason": "tree changed", **fields}
    return Request(status=status, detail=detail, **given)


def verdict(check: str, *failures: str, reasons: tuple[str, ...] = ()) -> Verdict:
    return Verdict(subject="x", report="r", champion=None, check=check, failures=failures, reasons=reasons)


def until(stage: str) -> dict[str, str | None]:
    """The stages before this one are done."""
    return dict.fromkeys(STAGES[: STAGES.index(stage)])


def answers(status: Status, detail: str = "", **fields: Any) -> dict[str, GroupAnswer]:
    asked_by = fields.pop("asked_by", "sensor")
    progress = Progress(request=request(status, detail, asked_by=asked_by), **fields)
    return {answer.group: answer for answer in group_answers(progress)}


def states(status: Status, detail: str = "", **fields: Any) -> list[str]:
    return [answer.state for answer in answers(status, detail, **fields).values()]


def test_every_stage_of_the_chain_is_in_one_group() -> None:
    assert [stage for stages in groups().values() for stage in stages] == [*STAGES]


def test_a_commit_goes_from_queued_to_success_and_one_group_runs_at_a_time() -> None:
    assert states("queued") == ["queued"] * 8
    assert states("running") == ["running"] + ["queued"] * 7
    done = until("registered_model")
    assert states("running", done=done) == ["success"] * 4 + ["running"] + ["queued"] * 3
    assert answers("running", done=done)["evaluation"].headline == "registered_model is running"
    assert states("released", done=dict.fromkeys(STAGES)) == ["success"] * 8


def test_a_canary_says_how_far_it_is() -> None:
    rollout = RolloutState(release="d", replaces="c", weights=(0.1, 0.5))
    found = answers("running", done=until("production_endpoint"), rollout=rollout)
    assert found["release"].headline == "canary: 10% of the traffic, step 1 of 2"


def test_a_failed_gate_fails_its_group_and_what_follows_is_not_a_pass() -> None:
    """A protection rule may require the release alone: it must not pass because the evaluation ended everything."""
    gates = verdict("evaluation_report:gates", "perplexity 9 above 5")
    refusal = verdict("registered_model:evidence", "perplexity 9 above 5")
    found = answers(
        "rejected",
        "registered_model: perplexity 9 above 5",
        done=until("registered_model"),
        verdicts=(gates, refusal),
    )
    assert [a.state for a in found.values()] == ["success"] * 4 + ["failure"] + ["cancelled"] * 3
    assert found["evaluation"].headline == "perplexity 9 above 5"
    assert found["release"].headline == "not reached: evaluation_report failed"


def test_a_stage_that_refuses_by_itself_has_failed() -> None:
    """Policy and canary are no results of an earlier stage."""
    refusal = verdict("production_endpoint:evidence", "at 50%: error_rate 40% above 5%")
    found = answers("rejected", "production_endpoint: x", done=until("production_endpoint"), verdicts=(refusal,))
    assert (found["release"].state, found["release"].headline) == ("failure", "at 50%: error_rate 40% above 5%")


@pytest.mark.parametrize(
    ("status", "detail", "stage", "group"),
    [
        ("failed", "fine_tuned_checkpoint: out of memory", "fine_tuned_checkpoint", "training"),
        ("failed", "4 runs ended without an outcome", "dataset_version", "data"),
        ("rejected", "rejected by eve@example.com: it invents animals", "registered_model", "evaluation"),
        ("rejected", "rejected by eve@example.com: no", "release_approval", "release"),
    ],
)
def test_an_end_without_a_verdict_is_a_failure_where_it_happened(
    status: Status, detail: str, stage: str, group: str
) -> None:
    found = answers(status, detail, done=until(stage))
    assert [a.group for a in found.values() if a.state == "failure"] == [group]


def test_what_waits_for_a_person_says_so_and_is_neither_pass_nor_failure() -> None:
    found = answers("waiting", "waiting for review of report 0123", done=until("registered_model"))
    assert [a.state for a in found.values()] == ["success"] * 4 + ["waiting"] + ["queued"] * 3
    assert found["evaluation"].headline == "waiting for review of report 0123"
    assert states("waiting", done=until("release_approval"))[-2:] == ["success", "waiting"]


def test_what_is_reused_or_not_needed_is_neutral() -> None:
    assert states("skipped", "nothing to do") == ["neutral"] * 8
    found = answers("done", "production already serves this release", done={"ci_report": None, "dataset_version": B})
    assert [found[g].state for g in ("ci", "data", "training")] == ["success", "neutral", "neutral"]
    assert found["data"].headline.startswith(f"reused from {B[:12]}")


@pytest.mark.parametrize("status", ["cancelled", "superseded"])
def test_a_commit_that_was_overtaken_or_stopped_passes_nothing_more(status: Status) -> None:
    assert states(status, "a newer commit", done=until("fine_tuned_checkpoint")) == ["success"] * 3 + ["cancelled"] * 5


def test_a_failure_during_the_run_is_shown_at_once() -> None:
    found = states("running", done={"ci_report": None}, verdicts=(verdict("ci_report:passes", "ruff: 2 problems"),))
    assert found == ["failure"] + ["cancelled"] * 7


def test_only_requests_for_a_whole_commit_are_answered_and_the_newest_of_each() -> None:
    requests = [
        request("rejected"), request("done", revision=B), request("running", generation=2),
        request("done", revision=B, generation=2, asked_by=PARTIAL),
        request("done", revision=B, generation=3, asked_by="rollback"),
        request("done", revision="c" * 40, asked_by=EVALUATION),
    ]  # fmt: skip
    found = newest_of_each(requests)
    assert [(r.revision[0], r.generation) for r in found.values()] == [("b", 1), ("a", 2), ("c", 1)]


def test_headlines_are_one_bounded_line() -> None:
    long = verdict("ci_report:passes", "x\n" * 900 + "\x1b[31m")
    headline = answers("rejected", verdicts=(long,))["ci"].headline
    assert "\n" not in headline and "\x1b" not in headline and len(headline) < 400
