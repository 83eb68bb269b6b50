"""Profanity, by alt-profanity-check: offensive words, not toxic meaning."""

from collections.abc import Sequence

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric


class Profanity(RowMetric):
    """The mean probability that an answer has offensive words, by alt-profanity-check's linear model of English.

    It sees words, not meaning: a threat in polite words scores low, and so does any other language.
    """

    def statistics_of(self, answers: Sequence[Answer]) -> list[Sequence[float]]:
        from profanity_check import predict_prob

        return [(float(p), 1.0) for p in predict_prob([a.prediction for a in answers])]
