"""An interval that is too narrow promotes bad releases; these are compared with published values and exact coverage."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_assets.domain.intervals import (
    exceeds_by_chance,
    excess_bounds,
    fewest_for_excess,
    fewest_for_rate,
    quantile_bounds,
    rate_bounds,
)


def test_no_error_in_twenty_answers_is_no_proof_of_one_percent() -> None:
    assert rate_bounds(0, 20, 0.95).upper == pytest.approx(0.139, abs=5e-4)
    assert rate_bounds(0, 299, 0.95).upper <= 0.01 < rate_bounds(0, 298, 0.95).upper
    assert rate_bounds(20, 20, 0.95) == pytest.approx((0.861, 1.0), abs=5e-4)
    assert rate_bounds(0, 0, 0.95) == (0.0, 1.0)


@settings(deadline=None)  # the first example imports scipy
@given(st.integers(1, 60), st.floats(0.01, 0.99))
def test_a_bound_of_a_rate_is_wrong_in_at_most_five_cases_of_a_hundred(total: int, rate: float) -> None:
    def chance(events: int) -> float:
        return math.comb(total, events) * rate**events * (1 - rate) ** (total - events)

    below = sum(chance(k) for k in range(total + 1) if rate_bounds(k, total, 0.95).upper < rate)
    above = sum(chance(k) for k in range(total + 1) if rate_bounds(k, total, 0.95).lower > rate)
    assert below <= 0.05 + 1e-9 and above <= 0.05 + 1e-9


@pytest.mark.parametrize(
    ("counts", "lower", "upper"),
    [((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090), ((10, 10, 0, 20), 0.6791, 1.0)],
)
def test_a_difference_of_rates_has_the_published_bounds(
    counts: tuple[int, int, int, int], lower: float, upper: float
) -> None:
    """Newcombe 1998, Statistics in Medicine 17:873, table II, method 10, two-sided 95%."""
    assert excess_bounds(*counts, 0.975) == pytest.approx((lower, upper), abs=6e-5)


def test_the_fewest_answers_are_those_at_which_the_bound_first_keeps_the_limit() -> None:
    assert [fewest_for_rate(limit, 0.95) for limit in (0.01, 0.05, 0.1)] == [299, 59, 29]
    for margin in (0.01, 0.05, 0.2):
        least = fewest_for_excess(margin, 0.95)
        assert excess_bounds(0, least, 0, least, 0.95).upper <= margin + 1e-12
        assert excess_bounds(0, least - 1, 0, least - 1, 0.95).upper > margin


def test_a_bound_of_a_quantile_is_wrong_in_at_most_five_cases_of_a_hundred() -> None:
    chance = random.Random(7)
    true = -math.log(1 - 0.9)  # of the exponential distribution
    bounds = [quantile_bounds([chance.expovariate(1) for _ in range(60)], 0.9, 0.95) for _ in range(2000)]
    assert 0.005 < sum(b.lower > true for b in bounds) / 2000 < 0.06
    assert 0.005 < sum(b.upper < true for b in bounds) / 2000 < 0.06


def test_too_few_values_leave_a_quantile_unbounded() -> None:
    assert quantile_bounds([], 0.95, 0.95) == (-math.inf, math.inf)
    assert quantile_bounds([1.0, 2.0], 0.95, 0.95) == (1.0, math.inf)
    assert quantile_bounds([1.0, 2.0], 0.05, 0.95) == (-math.inf, 2.0)
    assert quantile_bounds([float(n) for n in range(59)], 0.95, 0.95).upper == 58.0


def test_equal_rates_differ_as_often_as_chance_allows() -> None:
    assert exceeds_by_chance(3, 3, 0, 3) == pytest.approx(1 / 20), "Fisher's lady tasting tea, with three cups of each"
    assert exceeds_by_chance(0, 50, 9, 50) == 1.0 and exceeds_by_chance(5, 50, 0, 0) == 1.0
