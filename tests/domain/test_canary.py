"""A step is judged on what users and probes got, by intervals; what is not decided is not promoted."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_assets.domain.canary import conditions, fewest, judge, probes_suffice
from llmops_assets.domain.canary_evidence import Evidence, Tally, UserRequest, of_probes, of_users
from llmops_assets.domain.rollout import Analysis, Judgement, ProbeResult, RolloutPolicy

GOOD = ProbeResult(ok=True, latency_s=0.1)
BROKEN = ProbeResult(ok=False, latency_s=0.1)
CUT = ProbeResult(ok=True, cut=True, latency_s=0.1)
EMPTY = ProbeResult(ok=True, empty=True, latency_s=0.1)
SERVED, FAILED = UserRequest(ok=True, latency_s=0.2), UserRequest(ok=False, latency_s=0.2)
LONG = 120.0


def policy(*rules: dict[str, Any], **change: Any) -> RolloutPolicy:
    if rules:
        change["analysis"] = tuple(Analysis(**rule) for rule in rules)
    return RolloutPolicy(**{"min_samples": 20, **change})


def evidence(
    probes: list[ProbeResult] | None = None,
    users: list[UserRequest] | None = None,
    champion_users: list[UserRequest] | None = None,
    champion_probes: list[ProbeResult] | None = None,
    weight: float = 0.5,
) -> Evidence:
    return Evidence(
        probes=of_probes(probes or []),
        users=of_users(users or []),
        champion_probes=of_probes(champion_probes or []),
        champion_users=of_users(champion_users or []),
        weight=weight,
        has_champion=True,
    )


def judged(rules: RolloutPolicy, seen: Evidence, elapsed: float = 10.0, hold: float = 5.0) -> Judgement:
    return judge(rules, seen, elapsed, hold)


ERRORS = policy({"metric": "error_rate", "at_most": "5%"})


# -- small samples ----------------------------------------------------------------------------------------------------


def test_twenty_good_answers_do_not_show_a_rate_of_one_percent() -> None:
    """They did: 0 errors of 20 passed `error_rate at most 1%`, although a release that fails 14% shows that too."""
    strict = policy({"metric": "error_rate", "at_most": "1%"})
    found = judged(strict, evidence([GOOD] * 20))
    assert found.status == "waiting"
    (said,) = found.open
    assert said == "error_rate 0, limit 0.01: probes 0 of 20 error (0% to 13.9%), at least 299 answers are needed"
    assert judged(strict, evidence([GOOD] * 299)).status == "passed"


def test_what_is_not_decided_in_time_is_returned_as_undecided() -> None:
    found = judged(ERRORS, evidence([GOOD] * 40), elapsed=LONG)
    assert found.status == "undecided" and found.reasons
    (said,) = found.failures
    assert said.startswith("undecided after 120 s: error_rate 0, limit 0.05: probes 0 of 40")


def test_a_lower_confidence_decides_earlier() -> None:
    assert judged(policy(confidence=0.6, min_samples=1), evidence([GOOD] * 18)).status == "passed"
    assert judged(policy(min_samples=1), evidence([GOOD] * 58)).status == "waiting"


def test_too_few_answers_never_pass_however_good_they_are() -> None:
    many = policy({"metric": "error_rate", "at_most": "50%"}, min_samples=20)
    assert judged(many, evidence([GOOD] * 19)).status == "waiting"
    assert "19 answers" in judged(many, evidence([GOOD] * 19), elapsed=LONG).failures[0]
    assert judged(many, evidence([GOOD] * 20)).status == "passed"


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([GOOD] * 80 + [BROKEN] * 20, "error_rate 0.2, limit 0.05: probes 20 of 100 error (at least 13.7%)"),
        ([GOOD] * 80 + [EMPTY] * 20, "empty_rate 0.2, limit 0.05: probes 20 of 100 empty (at least 13.7%)"),
        ([GOOD] * 80 + [ProbeResult(ok=True, latency_s=9.0)] * 20, "p95_latency 9s, limit 5s: probes 20 of 100 slower"),
        ([GOOD] * 80 + [ProbeResult(ok=True, latency_s=math.inf)] * 20, "p95_latency infs, limit 5s: probes 20 of 100"),
        ([GOOD] * 80 + [CUT] * 20, "cut_rate 0.2, limit 0.05: probes 20 of 100 cut (at least 13.7%)"),
    ],
)
def test_broken_empty_slow_and_cut_answers_fail(samples: list[ProbeResult], text: str) -> None:
    rules = [(f"{kind}_rate", "5%") for kind in ("error", "empty", "cut")] + [("p95_latency", "5s")]
    found = judged(policy(*({"metric": m, "at_most": b} for m, b in rules)), evidence(samples))
    assert found.status == "failed"
    (said,) = found.failures
    assert said.startswith(text) and ("max_tokens" in said) == said.startswith("cut_rate")


def test_a_share_of_zero_allows_not_one_error() -> None:
    """No interval ends at zero: the rule is about what was seen."""
    none = policy({"metric": "error_rate", "at_most": "0%"})
    assert judged(none, evidence([GOOD] * 20)).status == "passed"
    assert judged(none, evidence([GOOD] * 200 + [BROKEN])).status == "failed"


def test_a_candidate_that_only_breaks_fails_even_if_no_rule_asks() -> None:
    """With latency as the only rule, twenty broken connections would count as twenty fast answers."""
    quick = policy({"metric": "p95_latency", "at_most": "5s"})
    assert judged(quick, evidence([BROKEN] * 70)).failures == ("no response completed",)


def test_all_reasons_are_reported() -> None:
    found = judged(policy(), evidence([BROKEN] * 20 + [EMPTY] * 20))
    assert [f.split()[0] for f in found.failures] == ["error_rate", "empty_rate"]


# -- the hold ---------------------------------------------------------------------------------------------------------


def test_nothing_passes_before_the_hold_has_ended() -> None:
    assert judged(ERRORS, evidence([GOOD] * 500), elapsed=4.9).status == "waiting"
    assert judged(ERRORS, evidence([GOOD] * 500), elapsed=5.0).status == "passed"


def test_what_is_beyond_doubt_fails_before_the_hold_has_ended() -> None:
    """Users should not have to suffer a release for an hour that breaks every answer."""
    assert judged(ERRORS, evidence([BROKEN] * 8), elapsed=1.0, hold=3600.0).status == "failed"
    doubtful = evidence([GOOD] * 20 + [BROKEN] * 4)
    assert judged(ERRORS, doubtful, elapsed=1.0, hold=3600.0).status == "waiting"
    assert judged(ERRORS, doubtful, elapsed=3600.0, hold=3600.0).status == "failed"


@pytest.mark.parametrize(
    ("change", "hold", "seconds"), [({}, 5.0, 120.0), ({}, 60.0, 180.0), ({"decide_within": "10m"}, 60.0, 600.0)]
)
def test_a_step_lasts_three_holds_or_two_minutes_unless_the_policy_says_otherwise(
    change: dict[str, Any], hold: float, seconds: float
) -> None:
    assert policy(**change).longest(hold) == seconds
    assert policy(decide_within="1s").longest(60.0) == 60.0, "never less than the hold"


# -- users' traffic ---------------------------------------------------------------------------------------------------


def test_errors_that_only_users_get_return_a_candidate_whose_probes_all_succeed() -> None:
    """Only the rollout's own probes were judged: 10% of the users' requests failed, and the release was promoted."""
    found = judged(ERRORS, evidence([GOOD] * 400, [SERVED] * 90 + [FAILED] * 10, [SERVED] * 100))
    assert found.status == "failed"
    assert found.failures == (
        "error_rate 0.1, limit 0.05: users 10 of 100 error (at least 5.53%), probes 0 of 400 error (at most 0.746%)",
    )


def test_without_users_the_probes_alone_decide_and_the_verdict_says_so() -> None:
    found = judged(ERRORS, evidence([GOOD] * 59))
    assert found.status == "passed"
    assert found.reasons[0] == "59 answers (59 to probes; no user traffic, so probes alone decide), minimum 20"


def test_traffic_that_will_suffice_is_waited_for_and_thin_traffic_is_not() -> None:
    busy = evidence([GOOD] * 100, [SERVED] * 20, [SERVED] * 20)
    assert judged(ERRORS, busy).status == "waiting", "40 requests in 10 s: 240 for the candidate in two minutes"
    quiet = judged(ERRORS, evidence([GOOD] * 100, [SERVED] * 2, [SERVED] * 2))
    assert quiet.status == "passed"
    assert "users' traffic is too thin to decide (59 answers needed), so probes decide" in quiet.reasons[1]


def test_thin_traffic_that_speaks_against_a_candidate_is_not_outvoted_by_probes() -> None:
    seen = evidence([GOOD] * 1000, [SERVED] * 4 + [FAILED], [SERVED] * 5)
    assert judged(ERRORS, seen, elapsed=60.0).status == "waiting"
    assert judged(ERRORS, seen, elapsed=LONG).status == "undecided"


def test_users_alone_may_decide_while_probes_are_few() -> None:
    assert judged(ERRORS, evidence([GOOD] * 8, [SERVED] * 400, [SERVED] * 400)).status == "passed"


def test_users_whose_requests_never_end_are_missed() -> None:
    """A candidate that hangs completes nothing, so nothing counts against it: its share of the traffic is missing."""
    seen = evidence([GOOD] * 100, [SERVED] * 3, [SERVED] * 60)
    found = judged(ERRORS, seen, elapsed=LONG)
    assert found.status == "undecided"
    assert "3 of the users' requests ended, far fewer than 50%" in found.failures[0]


def test_refusals_and_users_who_give_up_count_if_the_champion_has_fewer() -> None:
    """A release with a shorter context answers 400 to what the champion answers: no error by status, and a failure."""
    refused = UserRequest(ok=False, refused=True, latency_s=0.01)
    gone = UserRequest(ok=False, left=True, unanswered=True, latency_s=30.0)
    for bad, told in ((refused, "were refused with a status of 400 to 499"), (gone, "were given up by the user")):
        found = judged(ERRORS, evidence([GOOD] * 100, [SERVED] * 180 + [bad] * 20, [SERVED] * 200))
        assert found.status == "failed" and f"20 of 200 of the users' requests {told}" in found.failures[0]
        as_bad = evidence([GOOD] * 100, [SERVED] * 180 + [bad] * 20, [SERVED] * 180 + [bad] * 20)
        assert judged(ERRORS, as_bad).status == "passed", "users who send nonsense send it to both"


def test_a_user_who_left_is_no_error_and_waited_at_least_as_long() -> None:
    left = UserRequest(ok=False, left=True, latency_s=8.0)
    seen = of_users([SERVED] * 9 + [left, UserRequest(ok=False, left=True, latency_s=0.5)])
    assert (seen.answers, seen.errors, seen.left) == (9, 0, 2)
    assert seen.slower_than(5.0) == (1, 10), "the other might have been fast"


def test_users_latency_counts_but_not_that_they_ask_the_champion_for_long_answers_too() -> None:
    rule = policy({"metric": "p95_latency", "at_most": "1s"})
    slow = [UserRequest(ok=True, latency_s=3.0)] * 200
    assert judged(rule, evidence([GOOD] * 100, slow, [SERVED] * 200)).status == "failed"
    assert judged(rule, evidence([GOOD] * 100, slow, slow)).status == "passed"


# -- beside the champion ----------------------------------------------------------------------------------------------

BESIDE = policy({"metric": "error_rate", "no_worse_than": "champion", "margin": "5%"})


def test_a_candidate_may_fail_as_often_as_the_champion_does_at_the_same_time() -> None:
    storm = [SERVED] * 800 + [FAILED] * 200
    probes = {"probes": [GOOD] * 80, "champion_probes": [GOOD] * 80}
    assert judged(BESIDE, evidence(users=storm, champion_users=storm, **probes)).status == "passed"
    found = judged(BESIDE, evidence(users=storm, champion_users=[SERVED] * 1000, **probes))
    assert found.status == "failed"
    assert "users 200 of 1000, the champion 0 of 1000 (difference at least" in found.failures[0]


def test_a_first_release_has_no_champion_to_compare_with() -> None:
    alone = Evidence(probes=of_probes([GOOD] * 20))
    found = judged(BESIDE, alone)
    assert found.status == "passed" and "error_rate: no champion to compare with" in found.reasons


def test_latency_is_compared_with_the_champions() -> None:
    rule = policy({"metric": "p50_latency", "no_worse_than": "champion", "margin": "20%"})

    def at(seconds: float) -> list[ProbeResult]:
        return [ProbeResult(ok=True, latency_s=seconds + n / 10_000) for n in range(40)]

    assert judged(rule, evidence(at(1.1), champion_probes=at(1.0))).status == "passed"
    found = judged(rule, evidence(at(1.5), champion_probes=at(1.0)))
    assert found.status == "failed" and "p50_latency 1.5s, margin 20% of the champion's: probes" in found.failures[0]
    assert judged(rule, evidence(at(1.2), champion_probes=at(1.0))).status == "waiting"


# -- properties -------------------------------------------------------------------------------------------------------

probes = st.builds(ProbeResult, ok=st.booleans(), empty=st.booleans(), latency_s=st.floats(0, 10))
users = st.builds(UserRequest, ok=st.booleans(), latency_s=st.floats(0, 10), refused=st.booleans(), left=st.booleans())
rules = st.builds(
    lambda bound, margin: (
        Analysis(metric="error_rate", at_most=bound),
        Analysis(metric="p90_latency", at_most=5.0),
        Analysis(metric="error_rate", no_worse_than="champion", margin=margin),
    ),
    st.floats(0, 1),
    st.floats(0.01, 1),
)


@settings(deadline=None)  # the first example imports scipy
@given(
    rules,
    st.lists(probes, max_size=40) | st.just([GOOD] * 200),
    st.lists(users, max_size=40),
    st.lists(users, max_size=40),
    st.floats(0, 200),
    st.floats(0.01, 1),
)
def test_a_pass_rests_on_enough_answers_of_one_source_for_each_rule(
    analysis: tuple[Analysis, ...],
    asked: list[ProbeResult],
    mine: list[UserRequest],
    theirs: list[UserRequest],
    elapsed: float,
    weight: float,
) -> None:
    rules = RolloutPolicy(analysis=analysis, min_samples=4)
    seen = evidence(asked, mine, theirs, asked, weight)
    found = judged(rules, seen, elapsed)
    if found.status == "passed":
        assert elapsed >= 5.0 and seen.answers >= 4
        for rule, relative in conditions(rules):
            least = fewest(rule, relative, rules.confidence)
            assert max(seen.probes.requests, seen.users.requests) >= least
    if found.status == "waiting":
        assert elapsed < rules.longest(5.0)
    assert bool(found.failures) == (found.status in ("failed", "undecided"))


@settings(deadline=None)
@given(st.lists(probes, max_size=80))
def test_more_probes_are_needed_until_they_would_pass_alone(asked: list[ProbeResult]) -> None:
    assert probes_suffice(ERRORS, evidence(asked)) == (judged(ERRORS, evidence(asked)).status == "passed")
    assert not probes_suffice(ERRORS, evidence(asked[:5])), "five answers"
    assert Tally().requests == 0
