"""chrF (Popović 2015), by sacrebleu."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric

if TYPE_CHECKING:
    from llmops_assets.programs.evaluation.metrics.base import Array

ORDERS, BETA = 6, 2


class Chrf(RowMetric):
    """sacrebleu's corpus chrF of character 1- to 6-grams, beta 2; works for every script.

    Statistics: for each order the n-grams of the answer, those of the reference, and the matches.
    """

    def statistics_of(self, answers: Sequence[Answer]) -> list[Sequence[float]]:
        from sacrebleu.metrics import CHRF

        scorer = CHRF()
        # sacrebleu has no public function that returns the counts; the tests compare every value with corpus_chrf.
        return [scorer._extract_corpus_statistics([a.prediction], [[a.reference]])[0] for a in answers]

    @classmethod
    def value(cls, sums: "Array") -> "Array":
        """The formula of `sacrebleu.metrics.CHRF` (effective order, without epsilon smoothing), vectorized."""
        import numpy as np

        answer, reference, matches = (sums[..., i::3] for i in range(3))
        with np.errstate(divide="ignore", invalid="ignore"):
            both = (answer > 0) & (reference > 0)
            orders = both.sum(-1)
            precision = np.where(both, matches / answer, 0.0).sum(-1) / orders
            recall = np.where(both, matches / reference, 0.0).sum(-1) / orders
            score = (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
        return np.where((orders > 0) & (precision + recall > 0), 100 * score, 0.0)
