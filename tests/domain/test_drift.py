"""Drift: the index against its definition and its distribution, windows, and how long an excess must last."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.domain.drift import (
    BINS,
    DriftState,
    Measured,
    Reference,
    Sizes,
    follow,
    histogram,
    psi,
    reason_of,
    reference_of,
    sustained,
)

HOUR = 3600.0


def test_the_index_is_the_symmetric_divergence_of_the_shares() -> None:
    by_hand = (0.3 - 0.5) * math.log(0.3 / 0.5) + (0.7 - 0.5) * math.log(0.7 / 0.5)
    assert psi([500_000, 500_000], [300_000, 700_000]) == pytest.approx(by_hand, abs=1e-5)
    assert psi([10, 20, 30], [10, 20, 30]) == 0
    assert psi([1000, 0], [0, 1000]) > 10, "an empty bin is finite, and far"


def test_without_drift_the_index_follows_its_published_distribution() -> None:
    from scipy.stats import chi2

    rng, found = random.Random(1), []
    for _ in range(300):
        reference = reference_of([rng.lognormvariate(6, 1) for _ in range(500)], 0.0)
        counts = histogram(reference.edges, [rng.lognormvariate(6, 1) for _ in range(500)])
        found.append(psi(reference.counts, counts))
    freedom, scale = BINS - 1, 1 / 500 + 1 / 500  # the two outer bins are nearly empty on both sides
    assert sum(found) / 300 == pytest.approx(freedom * scale, rel=0.25)
    share = sum(value > chi2.ppf(0.95, freedom) * scale for value in found) / 300
    assert 0.01 < share < 0.12
    assert max(found) < 0.2, "never called drift"


@pytest.mark.parametrize(("factor", "least"), [(1.5, 0.1), (3.0, 0.6), (0.2, 1.0)])
def test_longer_or_shorter_requests_are_seen(factor: float, least: float) -> None:
    rng = random.Random(2)
    reference = reference_of([rng.lognormvariate(6, 1) for _ in range(2000)], 0.0)
    moved = histogram(reference.edges, [factor * rng.lognormvariate(6, 1) for _ in range(2000)])
    assert psi(reference.counts, moved) > least


@given(st.lists(st.integers(1, 5), min_size=1, max_size=40))
def test_sizes_that_repeat_make_fewer_bins_and_never_an_error(sizes: list[int]) -> None:
    reference = reference_of(sizes, 0.0)
    assert sum(reference.counts) == len(sizes)
    assert list(reference.edges) == sorted(set(reference.edges))
    assert psi(reference.counts, histogram(reference.edges, sizes)) == 0
    assert psi(reference.counts, histogram(reference.edges, [100] * len(sizes))) > 0


def test_the_reference_ends_with_its_window_but_not_before_it_has_enough_requests() -> None:
    quiet = Sizes(began=0.0, reference=None, window=HOUR, requests=3)
    for hour in range(1, 4):
        quiet.observe(hour * HOUR, 100)
    assert quiet.reference is None and quiet.collected == 3
    quiet.observe(4 * HOUR, 900)
    assert quiet.reference is not None and quiet.reference.until == 3 * HOUR
    assert quiet.measure() is None, "one request is too few"
    for _ in range(2):
        quiet.observe(5 * HOUR, 900)
    measured = quiet.measure()
    assert measured is not None and measured.requests == 3 and measured.psi > 1


def test_the_newest_window_forgets_what_is_older() -> None:
    reference = reference_of([100.0] * 500, until=0.0)
    sizes = Sizes(began=0.0, reference=reference, window=HOUR, requests=200)
    for second in range(1, 1001):
        sizes.observe(float(second), 900)
    for second in range(1000):
        sizes.observe(2 * HOUR + second, 100)
    measured = sizes.measure()
    assert measured is not None and measured.requests == 1000 and measured.psi < 0.01


def test_what_was_before_a_known_reference_ended_is_part_of_it_and_not_counted_again() -> None:
    sizes = Sizes(began=0.0, reference=reference_of([100.0] * 500, until=HOUR), window=HOUR, requests=200)
    for _ in range(300):
        sizes.observe(HOUR, 900)
    assert sizes.measure() is None


def test_only_an_excess_that_lasts_a_whole_window_without_a_break_is_drift() -> None:
    state = DriftState(data="d", began=0.0, reference=Reference(edges=(1.0,), counts=(1, 1), until=0.0))

    def after(state: DriftState, hour: float, index: float) -> tuple[DriftState, bool]:
        measured = Measured(psi=index, requests=500, at=hour * HOUR)
        state = follow(state, measured, above=0.2)
        return state, sustained(state, measured, 24 * HOUR)

    state, drifts = after(state, 1, 0.5)
    assert state.since == HOUR and not drifts
    state, drifts = after(state, 20, 0.1)
    assert state.since is None and not drifts
    state, drifts = after(state, 21, 0.5)
    state, drifts = after(state, 44, 0.5)
    assert not drifts
    state, drifts = after(state, 45, 0.6)
    assert drifts
    assert reason_of(state, 24 * HOUR) == (
        "users' requests differ in size from those of the first 1 d, since 1970-01-01 21:00:00 UTC"
    )
