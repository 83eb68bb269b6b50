"""Exact match of answer and reference."""

from collections.abc import Sequence

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric


class ExactMatch(RowMetric):
    """The share of answers that equal their reference, without the white space around them."""

    def statistics(self, answer: Answer) -> Sequence[float]:
        return [float(answer.prediction.strip() == answer.reference.strip()), 1.0]
