"""A rollout goes on only after a step that passed, and otherwise returns. `test_canary` is about what passes."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmops_assets.domain.canary import judge
from llmops_assets.domain.canary_evidence import Evidence, of_probes
from llmops_assets.domain.rollout import (
    Analysis,
    Judgement,
    ProbeResult,
    RolloutPolicy,
    RolloutState,
    RolloutStep,
    advance,
    begin,
    begin_rollback,
    parse_duration,
    parse_share,
    rollback_policy,
)

GOOD = ProbeResult(ok=True, latency_s=0.1)
BROKEN = ProbeResult(ok=False, latency_s=0.1)


def policy(**change: Any) -> RolloutPolicy:
    steps = (RolloutStep(weight=0.1), RolloutStep(weight=0.5))
    return RolloutPolicy(**{"steps": steps, "min_samples": 20, **change})


def rolled(policy: RolloutPolicy, *holds: list[ProbeResult], replaces: str | None = "old") -> RolloutState:
    """The state after steps with these probes, each at the end of the time that a step may take."""
    state = begin("new", replaces, policy)
    for samples in holds:
        seen = Evidence(probes=of_probes(samples), has_champion=replaces is not None, weight=state.weight)
        state = advance(state, judge(policy, seen, policy.longest(5.0), 5.0))
    return state


def test_a_good_canary_goes_up_step_by_step_and_is_promoted() -> None:
    weights = []
    state = begin("new", "old", policy())
    while state.status == "running":
        weights.append(state.weight)
        state = advance(state, Judgement(status="passed", reasons=("59 answers",), answers=59))
    assert weights == [0.1, 0.5]
    assert (state.status, state.weight, state.requests) == ("promoted", 1.0, 118)
    assert state.reasons == ("at 10%: 59 answers", "at 50%: 59 answers")


def test_a_step_that_failed_or_was_not_decided_returns_to_the_champion() -> None:
    second = advance(begin("new", "old", policy()), Judgement(status="passed", answers=59))
    for status in ("failed", "undecided"):
        state = advance(second, Judgement(status=status, failures=("a reason", "another"), answers=8))
        assert (state.status, state.weight, state.requests) == ("returned", 0.0, 67)
        assert state.reasons == ("at 50%: a reason", "at 50%: another")


def test_the_history_has_every_step_also_the_one_that_was_cut_off() -> None:
    second = advance(begin("new", "old", policy()), Judgement(status="passed", reasons=("0 of 59",), answers=59))
    failed = advance(second, Judgement(status="failed", failures=("9 of 9",), reasons=("fast",), answers=9))
    assert [(r.weight, r.outcome, r.answers, r.figures) for r in failed.history] == [
        (0.1, "passed", 59, ("0 of 59",)),
        (0.5, "failed", 9, ("9 of 9", "fast")),
    ]
    cancelled = second.model_copy(update={"status": "returned", "reasons": ("cancelled",)})
    assert [(r.weight, r.outcome, r.figures) for r in cancelled.history][-1] == (0.5, "interrupted", ("cancelled",))
    assert second.history == second.results


def test_a_step_that_is_waiting_stays_where_it_is() -> None:
    state = begin("new", "old", policy())
    assert advance(state, Judgement(status="waiting")) is state


def test_no_answer_at_all_returns_to_the_champion() -> None:
    assert rolled(policy(), []).status == "returned"


def test_a_first_release_has_one_step_of_full_weight() -> None:
    state = begin("new", None, policy())
    assert state.weights == (1.0,) and state.weight == 1.0
    assert rolled(policy(), [GOOD] * 59, replaces=None).status == "promoted"
    assert rolled(policy(), [GOOD] * 19, replaces=None).status == "returned"


def test_all_at_once_is_one_step_and_still_judged() -> None:
    at_once = policy(strategy="all_at_once")
    assert begin("new", "old", at_once).weights == (1.0,)
    assert rolled(at_once, [GOOD] * 59).status == "promoted"
    assert rolled(at_once, [BROKEN] * 20).status == "returned"


def test_an_ended_rollout_does_not_move_again() -> None:
    ended = rolled(policy(), [])
    assert advance(ended, Judgement(status="passed")) is ended


def test_a_rollout_that_was_stored_resumes_where_it_stopped() -> None:
    state = rolled(policy(), [GOOD] * 59)
    again = RolloutState.model_validate_json(state.model_dump_json())
    assert again == state and again.weight == 0.5


# -- properties -----------------------------------------------------------------------------------------------------

judgements = st.builds(
    Judgement,
    status=st.sampled_from(["passed", "failed", "waiting", "undecided"]),
    failures=st.just(("why",)),
    answers=st.integers(0, 99),
)
policies = st.builds(
    lambda weights: RolloutPolicy(steps=tuple(RolloutStep(weight=w) for w in sorted(weights))),
    st.lists(st.floats(0.01, 1), max_size=3),
)


@given(policies, st.lists(judgements, max_size=8), st.sampled_from([None, "old"]))
def test_only_as_many_passed_steps_as_it_has_promote_and_its_weight_never_falls_while_it_runs(
    policy: RolloutPolicy, judgements: list[Judgement], replaces: str | None
) -> None:
    state = begin("new", replaces, policy)
    weights, passed = [state.weight], 0
    for judgement in judgements:
        before = state
        state = advance(state, judgement)
        passed += before.status == "running" and judgement.status == "passed"
        if before.status != "running" or judgement.status == "waiting":
            assert state == before
        elif judgement.status != "passed":
            assert state.status == "returned" and state.weight == 0.0 and state.reasons
        assert (state.status == "promoted") == (passed == len(state.weights))
        if state.status != "returned":
            weights.append(state.weight)
    assert weights == sorted(weights)


# -- configuration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("2m", 120.0), ("1h", 3600.0), ("7d", 604800.0), (" 1.5 s ", 1.5)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["5", "5 seconds", "-5s", "", "1e3s", "5s5s"])
def test_a_duration_without_its_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="use for example"):
        parse_duration(text)


def test_shares_are_read_as_people_write_them() -> None:
    assert parse_share("10%") == 0.1 and parse_share("0.1") == 0.1 and parse_share(0.1) == 0.1
    with pytest.raises(ValueError, match="use for example"):
        parse_share("ten")


@pytest.mark.parametrize(
    ("analysis", "text"),
    [
        ({"metric": "error_rate", "at_most": "5s"}, "a share, such as 1%"),
        ({"metric": "empty_rate", "at_most": 5}, "between 0 and 1"),
        ({"metric": "p95_latency", "at_most": "5%"}, "a duration, such as 5s"),
        ({"metric": "error_rate", "at_most": "200%"}, "between 0 and 1"),
        ({"metric": "error_rate", "at_most": math.nan}, "finite|greater"),
        ({"metric": "error_rate"}, "needs at_most or no_worse_than"),
        ({"metric": "error_rate", "no_worse_than": "champion"}, "a margin above 0"),
        ({"metric": "error_rate", "at_most": "1%", "margin": "1%"}, "belongs to no_worse_than"),
        ({"metric": "error_rate", "no_worse_than": "champion", "margin": 2}, "between 0 and 1"),
    ],
)
def test_a_bound_that_could_not_be_missed_is_refused(analysis: dict[str, Any], text: str) -> None:
    """`error_rate at_most 5` is 500%: every canary would pass."""
    with pytest.raises(ValidationError, match=text):
        Analysis(**analysis)


def test_falling_weights_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"must not decrease \(50%, 10%\)"):
        policy(steps=({"weight": "50%"}, {"weight": "10%"}))


@pytest.mark.parametrize("weight", [0, "0%", "101%", "nan", -1])
def test_a_step_takes_a_real_share_of_traffic(weight: Any) -> None:
    with pytest.raises(ValidationError):
        RolloutStep(weight=weight)


# -- rollbacks ------------------------------------------------------------------------------------------------------


def test_a_rollback_asks_first_and_then_moves_everything_at_once() -> None:
    """A rollback to an engine that cannot answer does not help users of a bad release."""
    back = rollback_policy(policy())
    state = begin_rollback("old", "bad")
    assert (state.weight, state.status) == (0.0, "running")

    def after(*samples: ProbeResult, seconds: float = 1.0) -> RolloutState:
        return advance(state, judge(back, Evidence(probes=of_probes(samples)), seconds, 0.0))

    assert after(*[GOOD] * 8).status == "promoted"
    returned = after(*[BROKEN] * 8)
    assert (returned.status, returned.weight) == ("returned", 0.0)
    doubtful = [GOOD] * 7 + [BROKEN]
    assert after(*doubtful).status == "running", "it is asked again"
    assert after(*doubtful, *[GOOD] * 8).status == "promoted"
    assert after(*doubtful, seconds=60.0).status == "returned"


@pytest.mark.parametrize("analysis", [(), (Analysis(metric="p95_latency", at_most=0.1),)])
def test_a_rollback_asks_whether_the_release_answers_also_where_the_policy_has_no_rule_on_errors(
    analysis: tuple[Analysis, ...],
) -> None:
    """A release whose rules were about latency only was put back although none of its probes was answered."""
    back = rollback_policy(policy(analysis=analysis))
    dead = judge(back, Evidence(probes=of_probes([BROKEN] * 8)), 1.0, 0.0)
    assert advance(begin_rollback("old", "bad"), dead).status == "returned"


def test_a_rollback_does_not_hold_and_does_not_mind_being_slow() -> None:
    analysis = (Analysis(metric="p95_latency", at_most=0.1), Analysis(metric="error_rate", at_most=0.01))
    slow = policy(steps=(RolloutStep(weight=0.1, hold=3600.0),), min_samples=500, analysis=analysis)
    back = rollback_policy(slow)
    assert sum(s.hold for s in back.steps) == 0 and back.min_samples == 8
    assert [a.metric for a in back.analysis] == ["error_rate"]
