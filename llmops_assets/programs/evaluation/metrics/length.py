"""The length of answers."""

from collections.abc import Sequence

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric


class Length(RowMetric):
    """Unicode characters of an answer, the mean over the rows."""

    def statistics(self, answer: Answer) -> Sequence[float]:
        return [float(len(answer.prediction)), 1.0]
