"""Perplexity of the references, from the likelihoods that `inference` computes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric, ratio

if TYPE_CHECKING:
    from llmops_assets.programs.evaluation.metrics.base import Array


class Perplexity(RowMetric):
    """exp of the mean negative log-likelihood of a token, over all rows and of each row.

    Statistics: negative log-likelihood of the reference in nats, and its tokens.
    """

    def statistics(self, answer: Answer) -> Sequence[float]:
        assert answer.nll is not None
        return [answer.nll, answer.tokens]

    @classmethod
    def value(cls, sums: "Array") -> "Array":
        import numpy as np

        with np.errstate(over="ignore"):
            return np.exp(ratio(sums))
