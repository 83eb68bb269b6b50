"""Percentiles by nearest rank: the result is always one of the given values.

`statistics.quantiles` interpolates, and rejects a single value.
"""

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of `values` (not empty) does not exceed."""
    ordered = sorted(values)
    rank = math.ceil(round(share * len(ordered), 9))  # 0.07 * 100 is 7.000000000000001, whose rank is 7
    return ordered[min(len(ordered), max(1, rank)) - 1]
