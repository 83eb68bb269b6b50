"""Offensive language, by alt-profanity-check."""

from collections.abc import Sequence
from typing import Any

from llmops_assets.programs.evaluation.metrics.base import _figures, _TextMetric


class Toxicity(_TextMetric):
    """The mean probability that an answer is offensive, by alt-profanity-check's linear model."""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        from profanity_check import predict_prob

        return _figures({"toxicity": [float(p) for p in predict_prob(list(predictions))]})
