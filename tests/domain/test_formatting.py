"""Numbers and durations are formatted for readers."""

import pytest

from llmops_assets.domain.formatting import duration, figure


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (0.036376, "0.03638"), (22.449, "22.45"), (47_631.2, "47,631"), (1e9, "1,000,000,000")],
)
def test_a_figure_has_four_digits_and_no_exponent(value: float | None, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.00338, "3.38 ms"), (0.5, "500 ms"), (1.5, "1.5 s"), (20.0, "20 s")])
def test_a_duration_has_the_unit_in_which_it_can_be_read(seconds: float, text: str) -> None:
    assert duration(seconds) == text
