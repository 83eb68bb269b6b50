"""Offensive language, by alt-profanity-check."""

from collections.abc import Sequence
from typing import Any

from llmops_assets.programs.evaluation.metrics.base import TextMetric, mean_of_rows


class Toxicity(TextMetric):
    """The mean probability that an answer is offensive, by alt-profanity-check's linear model."""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        from profanity_check import predict_prob

        return mean_of_rows({"toxicity": [float(p) for p in predict_prob(list(predictions))]})
