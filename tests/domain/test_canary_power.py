"""What a canary can tell apart: simulated rollouts, with the figures that README and docs state."""

import re
from pathlib import Path

import pytest

from llmops_assets.config.project import parse_config
from llmops_assets.domain.canary_power import in_words, needed_answers, simulate
from llmops_assets.domain.rollout import Analysis, RolloutPolicy

ROOT = Path(__file__).parents[2]


def test_the_default_rules_return_bad_releases_and_keep_good_ones() -> None:
    """They judged 20 answers by the observed rate: a release that failed 2% was promoted in two of three rollouts."""
    policy = RolloutPolicy()
    bad, good = simulate(policy, 0.10), simulate(policy, 0.005)
    assert bad.returned >= 0.99, "detection"
    assert good.returned <= 0.01, "false alarms"
    at_the_limit = simulate(policy, 0.05, rollouts=200)
    assert at_the_limit.promoted <= 0.08, "about as rarely as the confidence says"


@pytest.mark.parametrize(("users_per_s", "detected"), [(1.0, 0.85), (5.0, 0.99)])
def test_errors_that_only_users_see_return_a_release(users_per_s: float, detected: float) -> None:
    """The probes alone were judged, and all of them succeeded."""
    found = simulate(RolloutPolicy(), 0.10, users_per_s, probes_fail=False, rollouts=200)
    assert found.returned >= detected
    good = simulate(RolloutPolicy(), 0.005, users_per_s, rollouts=200)
    assert good.returned <= 0.03


def test_a_rule_that_cannot_be_decided_in_time_promotes_nothing() -> None:
    strict = RolloutPolicy(analysis=(Analysis(metric="error_rate", at_most=0.0001),))
    found = simulate(strict, 0.0, rollouts=20)
    assert (found.promoted, found.undecided) == (0.0, 1.0)
    assert needed_answers(strict) == 29_956


def test_the_demos_rules_can_be_decided_in_its_time() -> None:
    """Two cores give one to two answers per second, and a revert has a minute for two steps and all around them."""
    policy = parse_config((ROOT / "examples/docstring-summarizer/llmops.yaml").read_text()).deployment.rollout
    assert needed_answers(policy) <= 24, "three rounds of probes"
    assert simulate(policy, 0.30).returned >= 0.99
    assert simulate(policy, 0.005).returned <= 0.01


def test_what_the_docs_state_is_what_is_simulated() -> None:
    text = (ROOT / "docs/concepts.md").read_text()
    rows = re.findall(r"^\| (\d[\d.]*)% \| (\d[\d.]*)% \| (\d[\d.]*)% \|", text, flags=re.MULTILINE)
    assert len(rows) == 4
    for error_rate, returned, to_users_only in rows:
        share = float(error_rate) / 100
        assert round(100 * simulate(RolloutPolicy(), share).returned, 1) == float(returned), error_rate
        alone = simulate(RolloutPolicy(), share, 20.0, probes_fail=False)
        assert round(100 * alone.returned, 1) == float(to_users_only), error_rate


def test_a_plan_states_it_in_a_sentence() -> None:
    said = in_words(RolloutPolicy(analysis=(Analysis(metric="error_rate", at_most=0.1),)))
    assert said.startswith("a step passes with 29 good answers at the earliest (95% confidence); 1,000 simulated")
    assert "100% of releases that fail 20% of answers" in said
    assert in_words(RolloutPolicy(analysis=())) == "a step passes with 20 good answers at the earliest (95% confidence)"
