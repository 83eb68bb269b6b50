"""BLEU (Papineni et al. 2002), by sacrebleu."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric

if TYPE_CHECKING:
    from llmops_assets.programs.evaluation.metrics.base import Array

ORDERS = 4


class Bleu(RowMetric):
    """sacrebleu's corpus BLEU (Post 2018); the value of a row is its smoothed sentence BLEU.

    Statistics: the matches of the n-gram orders 1 to 4, their totals, tokens of the answer and of the reference.
    """

    def statistics(self, answer: Answer) -> Sequence[float]:
        import sacrebleu

        found = sacrebleu.sentence_bleu(answer.prediction, [answer.reference])
        return [*found.counts, *found.totals, found.sys_len, found.ref_len]

    @classmethod
    def value(cls, sums: "Array") -> "Array":
        """The formula of `sacrebleu.metrics.BLEU.compute_bleu` with its default smoothing (exp), vectorized."""
        import numpy as np

        matches, totals = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS]
        length, wanted = sums[..., -2], sums[..., -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            # The k-th order without a match counts as 1 / 2^k matches.
            smoothed = np.where(matches > 0, matches, 0.5 ** np.cumsum(matches == 0, axis=-1))
            logs = np.log(100 * smoothed / totals).mean(-1)
            penalty = np.exp(np.minimum(0.0, 1 - wanted / length))
        defined = (totals > 0).all(-1) & (matches > 0).any(-1)
        return np.where(defined, penalty * np.exp(np.where(defined, logs, 0.0)), 0.0)

    def row_value(self, answer: Answer, statistics: Sequence[float]) -> float:
        from sacrebleu.metrics import BLEU

        counts = [int(v) for v in statistics]
        matches, totals = counts[:ORDERS], counts[ORDERS : 2 * ORDERS]
        return float(BLEU.compute_bleu(matches, totals, counts[-2], counts[-1], "exp", effective_order=True).score)
