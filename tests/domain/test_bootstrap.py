"""Intervals and comparisons keep their promises: shown by simulation, and against SciPy's own intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llmops_assets.domain.bootstrap import Resampled
from llmops_assets.domain.evaluated_rows import EvaluatedRows, interval, of_bound, of_comparison
from llmops_assets.domain.intervals import rate_bounds
from llmops_assets.programs.evaluation.metrics.base import RowMetric
from llmops_assets.programs.evaluation.metrics.perplexity import Perplexity

MEAN, PERPLEXITY = RowMetric.value, Perplexity.value
RUNS = 300
Draw = Callable[[np.random.Generator, int], Any]


def means(values: Any) -> Any:
    return np.stack([values, np.ones(len(values))], axis=1)


def rows_of(statistics: Any, value: Any = MEAN) -> EvaluatedRows:
    digests = tuple(map(str, range(len(statistics))))
    return EvaluatedRows(digests=digests, statistics={"m": statistics}, values={"m": value})


def test_the_interval_of_a_mean_is_scipys_bootstrap_t() -> None:
    """Of 200 skewed rows; SciPy's BCa, another second-order accurate interval, agrees within 3% of the width."""
    import scipy.stats

    values = np.random.default_rng(1).gamma(2.0, size=200)
    found = interval(means(values), MEAN, 0.95)
    reference = scipy.stats.bootstrap((values,), np.mean, confidence_level=0.9, rng=2).confidence_interval
    width = reference.high - reference.low
    assert abs(found.lower - reference.low) < 0.05 * width and abs(found.upper - reference.high) < 0.05 * width


def test_the_standard_error_of_a_ratio_is_that_of_the_delta_method() -> None:
    """Against SciPy's bootstrap of the same function over the rows."""
    import scipy.stats

    chance = np.random.default_rng(3)
    tokens = chance.integers(5, 40, 150).astype(float)
    nll = tokens * chance.gamma(4, 0.5, 150)
    found = Resampled(np.stack([nll, tokens], axis=1)).error(PERPLEXITY)

    def perplexity(a: Any, b: Any, axis: int) -> Any:
        return np.exp(a.sum(axis) / b.sum(axis))

    reference = scipy.stats.bootstrap((nll, tokens), perplexity, paired=True, vectorized=True, rng=4)
    assert found == pytest.approx(reference.standard_error, rel=0.05)


def test_rows_of_almost_one_length_have_an_interval() -> None:
    """In most resamples of six rows all had seven tokens: a variance of zero, by rounding below it, and no interval."""
    tokens = np.array([7.0, 7, 7, 8, 7, 7])
    nll = tokens * (10.7 + np.random.default_rng(0).normal(0, 0.05, 6))
    rows, other = (np.stack([n, tokens], axis=1) for n in (nll, nll + tokens * 0.001 * np.arange(6)))
    low, high = interval(rows, PERPLEXITY, 0.95)
    assert 0.9 * np.exp(10.7) < low < high < 1.1 * np.exp(10.7)
    found = of_comparison(
        rows_of(rows, PERPLEXITY), rows_of(other, PERPLEXITY), "m", False, lambda reference: 0.5 * reference, 0.95
    )
    assert found is not None and found.outcome == "passed"


def test_equal_rows_give_equal_intervals_and_one_row_gives_none() -> None:
    values = means(np.random.default_rng(5).random(40))
    assert interval(values, MEAN, 0.95) == interval(values.copy(), MEAN, 0.95)
    assert interval(values[:1], MEAN, 0.95) == (-np.inf, np.inf)


def test_a_rate_has_its_exact_interval() -> None:
    """A bootstrap of 50 right rows says that the rate is 100% for certain."""
    assert interval(means(np.ones(50)), MEAN, 0.95) == rate_bounds(50, 50, 0.95)
    assert rate_bounds(50, 50, 0.95).lower == pytest.approx(0.05 ** (1 / 50))


def of_rouge(chance: np.random.Generator, rows: int) -> tuple[Any, Any, float]:
    """Two models whose scores differ by −0.02 in the mean: the margin."""
    other = chance.beta(1, 3, rows)
    change = chance.choice([-0.5, -0.2, 0.0, 0.1, 0.4], rows, p=[0.06, 0.2, 0.4, 0.28, 0.06])
    return means(other + change - (-0.018) - 0.02), means(other), 0.02


def of_perplexity(chance: np.random.Generator, rows: int) -> tuple[Any, Any, float]:
    tokens, rate = chance.integers(5, 40, rows).astype(float), chance.lognormal(1, 0.5, rows)
    other = rate * tokens
    mine = other + tokens * np.log(1.02) + chance.normal(0, 0.5, rows) * np.sqrt(tokens) * rate
    return np.stack([mine, tokens], axis=1), np.stack([other, tokens], axis=1), 0.02


def of_right_and_wrong(chance: np.random.Generator, rows: int) -> tuple[Any, Any, float]:
    """The candidate loses 5% of the answers and wins none: where resampling sees too little."""
    other = (chance.random(rows) < 0.9).astype(float)
    return means(other * (chance.random(rows) >= 0.05 / 0.9)), means(other), 0.05


@pytest.mark.parametrize(
    ("draw", "value", "relative"),
    [(of_rouge, MEAN, False), (of_perplexity, PERPLEXITY, True), (of_right_and_wrong, MEAN, False)],
)
@pytest.mark.parametrize("rows", [20, 60])
def test_a_model_at_the_margin_passes_at_most_5_percent_of_the_time(
    draw: Draw, value: Any, relative: bool, rows: int
) -> None:
    """A point estimate passes half of the time. 300 runs: three standard errors of 5% are 3.8%."""
    chance, passed, failed = np.random.default_rng(7), 0, 0
    for _ in range(RUNS):
        mine, other, margin = draw(chance, rows)
        found = of_comparison(
            rows_of(mine, value), rows_of(other, value), "m", value is MEAN,
            (lambda reference, m=margin: m * reference) if relative else lambda reference, m=margin: m, 0.95,
        )  # fmt: skip
        assert found is not None
        passed, failed = passed + (found.outcome == "passed"), failed + (found.outcome == "failed")
    assert passed <= (0.05 + 0.038) * RUNS and failed <= (0.05 + 0.038) * RUNS


def test_two_runs_of_the_same_model_pass_or_are_undecided_but_hardly_ever_fail() -> None:
    chance, outcomes = np.random.default_rng(8), []
    for _ in range(RUNS):
        other = chance.beta(1, 3, 60)
        mine = other + chance.choice([-0.2, 0.0, 0.2], 60, p=[0.25, 0.5, 0.25])
        found = of_comparison(rows_of(means(mine)), rows_of(means(other)), "m", True, lambda reference: 0.05, 0.95)
        assert found is not None
        outcomes.append(found.outcome)
    assert outcomes.count("failed") <= 0.01 * RUNS and outcomes.count("passed") > 0.5 * RUNS


def test_the_ratchet_stops_at_a_baseline() -> None:
    """Each release loses three quarters of the margin against its predecessor: all pass, and the losses add up."""
    chance, rows, margin = np.random.default_rng(9), 400, 0.02
    first = chance.beta(2, 3, rows)
    against_champion, against_baseline, champion = [], [], first
    for _ in range(8):
        candidate = champion + chance.normal(-0.75 * margin, 0.02, rows)
        for against, found in ((champion, against_champion), (first, against_baseline)):
            compared = of_comparison(
                rows_of(means(candidate)), rows_of(means(against)), "m", True, lambda reference: margin, 0.95
            )
            assert compared is not None
            found.append(compared.outcome)
        champion = candidate
    assert against_champion == ["passed"] * 8
    assert against_baseline == ["passed"] + ["failed"] * 7


def test_the_rows_that_would_decide_do_decide() -> None:
    """An undecided comparison says how many rows would decide; with so many, most runs do: the power is 80%."""
    chance = np.random.default_rng(10)

    def compare(rows: int) -> Any:
        other = chance.beta(1, 3, rows)
        mine = other + chance.normal(0.0, 0.2, rows)
        return of_comparison(rows_of(means(mine)), rows_of(means(other)), "m", True, lambda reference: 0.03, 0.95)

    needed = round((1.6449 + 0.8416) ** 2 * (0.2 / 0.03) ** 2)
    said = [c.deciding_rows for c in (compare(60) for _ in range(60)) if c.outcome == "undecided" and c.deciding_rows]
    assert 0.3 * needed < float(np.median(said)) < 3 * needed
    assert np.mean([compare(needed).outcome == "passed" for _ in range(100)]) > 0.68


def test_rows_are_paired_by_their_content_and_other_rows_are_not_compared() -> None:
    values = np.random.default_rng(11).random(30)
    one, two = rows_of(means(values)), rows_of(means(values - 0.01))
    order = np.random.default_rng(12).permutation(30)
    found = of_comparison(one, two.only(tuple(map(int, order))), "m", True, lambda reference: 0.0, 0.95)
    assert found is not None and found.bounds.lower == pytest.approx(0.01, abs=1e-6) and found.outcome == "passed"
    same = of_comparison(one, one, "m", True, lambda reference: 0.0, 0.95)
    assert same is not None and same.outcome == "passed", "equal on every row"
    others = EvaluatedRows(digests=("x",) * 30, statistics=two.statistics, values=two.values)
    assert of_comparison(one, others, "m", True, lambda reference: 0.0, 0.95) is None


def test_a_bound_with_confidence_is_judged_on_the_interval() -> None:
    rows = rows_of(means(np.random.default_rng(13).normal(0.5, 0.1, 50)))
    outcomes = [of_bound(rows, "m", bound, False, 0.95).outcome for bound in (0.4, 0.5, 0.6)]  # type: ignore[union-attr]
    assert outcomes == ["passed", "undecided", "failed"]
    upper = [of_bound(rows, "m", bound, True, 0.95).outcome for bound in (0.4, 0.6)]  # type: ignore[union-attr]
    assert upper == ["failed", "passed"]
