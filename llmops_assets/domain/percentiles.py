"""Percentiles by nearest rank: always one of the values that were seen, never a figure between two of them.

`statistics.quantiles` interpolates, and refuses a single value.
"""

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least this share of `values` (which must not be empty) does not exceed."""
    ordered = sorted(values)
    rank = math.ceil(round(share * len(ordered), 9))  # 0.07 * 100 is 7.000000000000001, whose rank is 7
    return ordered[min(len(ordered), max(1, rank)) - 1]
