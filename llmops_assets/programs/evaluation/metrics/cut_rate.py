"""Answers that their length limit has cut off."""

from collections.abc import Sequence

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric


class CutRate(RowMetric):
    """The share of answers that reached `evaluation.max_new_tokens`, or the release's own limit, before their end."""

    def statistics(self, answer: Answer) -> Sequence[float]:
        return [float(answer.cut), 1.0]
