"""Answers that a regular expression matches: `{metric: regex, pattern: '^[A-Z]'}`."""

from collections.abc import Sequence

from llmops_assets.domain.patterns import occurs
from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric


class Regex(RowMetric):
    """The share of answers in which the pattern occurs; `^` and `$` bind it to the whole answer. Python's syntax."""

    def statistics(self, answer: Answer) -> Sequence[float]:
        return [float(occurs(self.options["pattern"], answer.prediction)), 1.0]
