"""A percentile is one of the given values, and the same in reports and gates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.domain.percentiles import percentile


@pytest.mark.parametrize("hundredths", [1, 7, 29, 50, 57, 58, 90, 95, 99, 100])
def test_a_percentile_is_the_least_value_that_reaches_the_share(hundredths: int) -> None:
    """Compared with brute force in integers: 0.07 * 100 is 7.000000000000001 and int(0.29 * 100) is 28."""
    for count in range(1, 201):
        values = [float(v) for v in range(count)]
        reference = next(v for rank, v in enumerate(values, start=1) if rank * 100 >= hundredths * count)
        assert percentile(values[::-1], hundredths / 100) == reference, count


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_of_the_values(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(v <= found for v in values) >= share * len(values) - 1e-6


def test_half_a_percent_counts() -> None:
    """p99.5 was once computed as p99."""
    assert percentile([float(v) for v in range(1000)], 0.995) == 994.0
