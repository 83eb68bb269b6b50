"""The metric of `dummy_parts`, in its own module: it imports evaluate, which only evaluations need."""

from collections.abc import Sequence
from typing import Any

from llmops_assets.programs.evaluation.metrics.base import TextMetric, mean_of_rows


class AnswerLength(TextMetric):
    """The number of characters in an answer."""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        return mean_of_rows({"answer_length": [float(len(p)) for p in predictions]})
