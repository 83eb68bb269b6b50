"""Perplexity of the references, from the likelihoods that `inference` computes."""

import math
from typing import Any


def perplexity(likelihoods: list[tuple[float, int]]) -> dict[str, Any]:
    """exp of the mean negative log-likelihood of a token, over all rows and of each row.

    Args:
        likelihoods: negative log-likelihood and tokens of each reference.
    """

    def exp(value: float) -> float:
        return math.exp(value) if value < 700 else math.inf

    tokens = sum(n for _, n in likelihoods)
    whole = exp(sum(nll for nll, _ in likelihoods) / tokens) if tokens else math.nan
    return {"perplexity": whole, "perplexity/rows": [exp(nll / n) if n else math.nan for nll, n in likelihoods]}
