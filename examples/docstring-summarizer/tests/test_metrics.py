"""Tests of the project's own metric; the platform tests its built-in metrics."""

import pytest

from metrics import starts_upper


@pytest.mark.parametrize(
    ("prediction", "score"),
    [("Return the sum.", 1.0), ("`None` if empty.", 1.0), ("return the sum.", 0.0), ("", 0.0), ("  Äpfel.", 1.0)],
)
def test_a_summary_that_begins_with_a_capital_scores_one(prediction: str, score: float) -> None:
    assert starts_upper(prediction, "whatever") == score
