"""Profanity, by alt-profanity-check: offensive words, not toxic meaning."""

from collections.abc import Sequence
from typing import Any

from llmops_assets.programs.evaluation.metrics.base import TextMetric, mean_of_rows


class Profanity(TextMetric):
    """The mean probability that an answer has offensive words, by alt-profanity-check's linear model of English.

    It sees words, not meaning: a threat in polite words scores low, and so does any other language.
    """

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        from profanity_check import predict_prob

        return mean_of_rows({self.names[0]: [float(p) for p in predict_prob(list(predictions))]})
