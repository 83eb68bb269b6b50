"""The metric of `dummy_parts`, in its own module, which only evaluations and verdicts load."""

from collections.abc import Sequence

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric


class AnswerLength(RowMetric):
    """The number of characters in an answer, the mean over the rows."""

    def statistics(self, answer: Answer) -> Sequence[float]:
        return [len(answer.prediction), 1]
