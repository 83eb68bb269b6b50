"""A canary is promoted only on sufficient evidence, and otherwise returned."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmops_assets.domain.rollout import (
    Analysis,
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
CUT = ProbeResult(ok=True, cut=True, latency_s=0.1)
EMPTY = ProbeResult(ok=True, empty=True, latency_s=0.1)


def policy(**change: Any) -> RolloutPolicy:
    steps = (RolloutStep(weight=0.1), RolloutStep(weight=0.5))
    return RolloutPolicy(**{"steps": steps, "min_samples": 20, **change})


def rolled(policy: RolloutPolicy, *holds: list[ProbeResult], replaces: str | None = "old") -> RolloutState:
    state = begin("new", replaces, policy)
    for samples in holds:
        state = advance(state, policy, samples)
    return state


def test_a_good_canary_goes_up_step_by_step_and_is_promoted() -> None:
    weights = []
    state = begin("new", "old", policy())
    while state.status == "running":
        weights.append(state.weight)
        state = advance(state, policy(), [GOOD] * 20)
    assert weights == [0.1, 0.5]
    assert (state.status, state.weight, state.requests) == ("promoted", 1.0, 40)
    assert any(r.startswith("at 10%: 20 answers") for r in state.reasons)
    assert any(r.startswith("at 50%: error_rate 0") for r in state.reasons)


def test_too_few_answers_never_promote_however_good_they_are() -> None:
    state = rolled(policy(), [GOOD] * 20, [GOOD] * 19)
    assert (state.status, state.weight) == ("returned", 0.0)
    assert state.reasons == ("at 50%: 19 answers, minimum 20",)


def test_no_answer_at_all_returns_to_the_champion() -> None:
    assert rolled(policy(), []).status == "returned"


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([GOOD] * 98 + [BROKEN] * 2, "error_rate 0.02, limit 0.01"),
        ([GOOD] * 90 + [EMPTY] * 10, "empty_rate 0.1, limit 0.05"),
        ([GOOD] * 94 + [ProbeResult(ok=True, latency_s=9.0)] * 6, "p95_latency 9s, limit 5s"),
        ([GOOD] * 94 + [ProbeResult(ok=True, latency_s=math.inf)] * 6, "p95_latency infs, limit 5s"),
    ],
)
def test_broken_empty_and_slow_answers_return_it(samples: list[ProbeResult], text: str) -> None:
    analysis = [("error_rate", 0.01), ("empty_rate", 0.05), ("p95_latency", 5.0)]
    strict = policy(analysis=tuple(Analysis(metric=m, at_most=b) for m, b in analysis))
    state = rolled(strict, samples)
    assert state.status == "returned" and state.reasons == (f"at 10%: {text}",)


def test_answers_cut_short_return_it_and_name_the_setting() -> None:
    assert rolled(policy(), [GOOD] * 95 + [CUT] * 5).status == "running"
    state = rolled(policy(), [GOOD] * 90 + [CUT] * 10)
    assert state.status == "returned"
    assert "cut_rate 0.1, limit 0.05" in state.reasons[0] and "max_tokens" in state.reasons[0]


def test_a_figure_equal_to_its_bound_is_promoted() -> None:
    assert rolled(policy(), [GOOD] * 99 + [BROKEN]).status == "running"
    assert rolled(policy(), [GOOD] * 95 + [EMPTY] * 5).status == "running"


def test_a_candidate_that_only_breaks_is_returned_even_if_no_rule_asks() -> None:
    """With latency as the only rule, twenty broken connections would count as twenty fast answers."""
    quick = policy(analysis=(Analysis(metric="p95_latency", at_most=5.0),))
    assert rolled(quick, [BROKEN] * 50).reasons == ("at 10%: no response completed",)
    assert rolled(policy(analysis=()), [BROKEN] * 50).status == "returned"


def test_all_reasons_are_reported() -> None:
    state = rolled(policy(), [BROKEN, EMPTY])
    assert len(state.reasons) == 3


def test_a_first_release_has_one_step_of_full_weight() -> None:
    state = begin("new", None, policy())
    assert state.weights == (1.0,) and state.weight == 1.0
    assert rolled(policy(), [GOOD] * 20, replaces=None).status == "promoted"
    assert rolled(policy(), [GOOD] * 19, replaces=None).status == "returned"


def test_all_at_once_is_one_step_and_still_judged() -> None:
    at_once = policy(strategy="all_at_once")
    assert begin("new", "old", at_once).weights == (1.0,)
    assert rolled(at_once, [GOOD] * 20).status == "promoted"
    assert rolled(at_once, [BROKEN] * 20).status == "returned"


def test_an_ended_rollout_does_not_move_again() -> None:
    ended = rolled(policy(), [])
    assert advance(ended, policy(), [GOOD] * 20) is ended


def test_a_rollout_that_was_stored_resumes_where_it_stopped() -> None:
    state = rolled(policy(), [GOOD] * 20)
    again = RolloutState.model_validate_json(state.model_dump_json())
    assert again == state and again.weight == 0.5


def test_a_policy_that_changes_midway_leaves_the_planned_weights_alone() -> None:
    state = advance(begin("new", "old", policy()), policy(steps=()), [GOOD] * 20)
    assert (state.status, state.weight) == ("running", 0.5)


# -- properties -----------------------------------------------------------------------------------------------------

samples = st.builds(ProbeResult, ok=st.booleans(), empty=st.booleans(), latency_s=st.floats(0, 10))
holds = st.lists(st.lists(samples, max_size=12) | st.just([GOOD] * 12), max_size=6)
policies = st.builds(
    lambda weights, least, bound: RolloutPolicy(
        steps=tuple(RolloutStep(weight=w) for w in sorted(weights)),
        min_samples=least,
        analysis=(Analysis(metric="error_rate", at_most=bound), Analysis(metric="p95_latency", at_most=5.0)),
    ),
    st.lists(st.floats(0.01, 1), max_size=3),
    st.integers(1, 12),
    st.floats(0, 1),
)


@given(policies, holds, st.sampled_from([None, "old"]))
def test_it_is_never_promoted_on_too_few_answers_and_its_weight_never_falls_while_it_runs(
    policy: RolloutPolicy, holds: list[list[ProbeResult]], replaces: str | None
) -> None:
    state = begin("new", replaces, policy)
    weights = [state.weight]
    for number, hold in enumerate(holds):
        before = state
        state = advance(state, policy, hold)
        if before.status != "running":
            assert state == before
        elif len(hold) < policy.min_samples or not any(s.ok for s in hold):
            assert state.status == "returned" and state.weight == 0.0 and state.reasons
        if state.status == "promoted":
            assert all(len(h) >= policy.min_samples for h in holds[: len(state.weights)])
            assert number + 1 >= len(state.weights)
        if state.status != "returned":
            weights.append(state.weight)
    assert weights == sorted(weights)


@given(policies, st.sampled_from([None, "old"]))
def test_it_ends_after_as_many_holds_as_it_has_steps(policy: RolloutPolicy, replaces: str | None) -> None:
    state = begin("new", replaces, policy)
    for _ in state.weights:
        assert state.status == "running"
        state = advance(state, policy, [GOOD] * policy.min_samples)
    assert state.status == "promoted"


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
    back = rollback_policy(policy(min_samples=4))
    state = begin_rollback("old", "bad")
    assert (state.weight, state.status) == (0.0, "running")
    assert advance(state, back, [GOOD] * 4).status == "promoted"
    returned = advance(state, back, [BROKEN] * 4)
    assert (returned.status, returned.weight) == ("returned", 0.0)


def test_a_rollback_does_not_hold_and_does_not_mind_being_slow() -> None:
    analysis = (Analysis(metric="p95_latency", at_most=0.1), Analysis(metric="error_rate", at_most=0.01))
    slow = policy(steps=(RolloutStep(weight=0.1, hold=3600.0),), min_samples=500, analysis=analysis)
    back = rollback_policy(slow)
    assert sum(s.hold for s in back.steps) == 0 and back.min_samples == 8
    assert [a.metric for a in back.analysis] == ["error_rate"]
