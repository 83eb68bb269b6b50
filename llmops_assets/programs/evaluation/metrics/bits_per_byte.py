"""Bits per byte of the references (Gao et al. 2020, arXiv:2101.00027, section 3.1), comparable between tokenizers."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric, ratio

if TYPE_CHECKING:
    from llmops_assets.programs.evaluation.metrics.base import Array


class BitsPerByte(RowMetric):
    """Negative log-likelihood of the references in bits, over their bytes: sum(nll) / ln 2 / sum(bytes).

    Perplexity counts the same likelihood in tokens, whose length each tokenizer chooses; bytes are the same for all.
    The likelihood is that of the answer with its end of turn, the bytes are those of the reference in UTF-8.

    Statistics: negative log-likelihood of the reference in nats, and its bytes.
    """

    def statistics(self, answer: Answer) -> Sequence[float]:
        assert answer.nll is not None
        return [answer.nll, len(answer.reference.encode())]

    @classmethod
    def value(cls, sums: "Array") -> "Array":
        return ratio(sums) / math.log(2)
