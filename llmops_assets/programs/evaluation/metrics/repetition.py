"""Repetition within an answer: seq-rep-4 of Welleck et al. 2019 (arXiv:1908.04319), on words."""

from collections.abc import Sequence

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric

N = 4


class Repetition(RowMetric):
    """1 - distinct / all 4-grams of an answer, the mean over the rows; answers of fewer than four words count as 0.

    Words are separated by white space, so it sees nothing in scripts that have none, such as Chinese.
    """

    def statistics(self, answer: Answer) -> Sequence[float]:
        words = answer.prediction.split()
        grams = [tuple(words[i : i + N]) for i in range(len(words) - N + 1)]
        return [1 - len(set(grams)) / len(grams) if grams else 0.0, 1.0]
