"""One-sided confidence intervals of rates, differences of rates and quantiles. Pure statistics.

Each bound holds on its own with the given confidence: `rate_bounds(0, 20, 0.95).upper` is 0.139, since a rate above
13.9% would show no event in 20 in less than 5% of all cases.
"""

import bisect
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

SMALLEST = 1e-12
"""Limits below this need more answers than anyone will ever see; dividing by them overflows."""


class Bounds(NamedTuple):
    lower: float
    upper: float


@lru_cache(maxsize=65536)
def rate_bounds(events: int, total: int, confidence: float) -> Bounds:
    """Clopper-Pearson bounds of a rate: exact, so never narrower than promised, however small the sample."""
    from scipy.special import betaincinv  # here, since importing scipy takes 0.2 s: loading the location must not

    if not total:
        return Bounds(0.0, 1.0)
    lower = float(betaincinv(events, total - events + 1, 1 - confidence)) if events else 0.0
    upper = float(betaincinv(events + 1, total - events, confidence)) if events < total else 1.0
    return Bounds(lower, upper)


@lru_cache(maxsize=65536)
def excess_bounds(events: int, total: int, other_events: int, other_total: int, confidence: float) -> Bounds:
    """Newcombe's bounds (1998, method 10) of how far a rate exceeds another one, from two independent samples."""
    if not total or not other_total:
        return Bounds(-1.0, 1.0)
    rate, other = events / total, other_events / other_total
    mine, others = _wilson(events, total, confidence), _wilson(other_events, other_total, confidence)
    return Bounds(
        rate - other - math.hypot(rate - mine.lower, others.upper - other),
        rate - other + math.hypot(mine.upper - rate, other - others.lower),
    )


def _wilson(events: int, total: int, confidence: float) -> Bounds:
    z = normal_quantile(confidence)
    center = events + z * z / 2
    spread = z * math.sqrt(events * (total - events) / total + z * z / 4)
    return Bounds(max(0.0, (center - spread) / (total + z * z)), min(1.0, (center + spread) / (total + z * z)))


@lru_cache(maxsize=64)
def normal_quantile(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(confidence))


def normal_cdf(value: float) -> float:
    return math.erfc(-value / math.sqrt(2)) / 2


def quantile_bounds(values: Sequence[float], share: float, confidence: float) -> Bounds:
    """Bounds of a quantile from order statistics, whatever the distribution. Too few values leave a side unbounded."""
    from scipy.special import bdtr

    ordered, total = sorted(values), len(values)

    def at_most(rank: int) -> float:
        """How probable it is that at most so many values lie below the quantile; it grows with the number."""
        return float(bdtr(rank, total, share))

    first = bisect.bisect_left(range(total), confidence, key=at_most)
    last = bisect.bisect_right(range(total), 1 - confidence, key=at_most) - 1
    return Bounds(ordered[last] if last >= 0 else -math.inf, ordered[first] if first < total else math.inf)


def exceeds_by_chance(events: int, total: int, other_events: int, other_total: int) -> float:
    """Fisher's exact test: how probable at least as many of the events on this side are if both rates are equal."""
    if not total or not other_total or not events:
        return 1.0
    from scipy.stats import hypergeom  # takes 1 s to import

    return float(hypergeom.sf(events - 1, total + other_total, events + other_events, total))


@lru_cache(maxsize=65536)
def falls_short_by_chance(events: int, total: int, share: float) -> float:
    """How probable so few of the events are if each has this share of chance."""
    from scipy.special import bdtr

    return float(bdtr(events, total, share)) if total else 1.0


def fewest_for_rate(limit: float, confidence: float) -> int:
    """The fewest answers, all good, that show a rate to be at most `limit`."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-max(limit, SMALLEST))) if 0 < limit < 1 else 1


def fewest_for_excess(margin: float, confidence: float) -> int:
    """The fewest answers on each side, all good, that show a rate to exceed another one by at most `margin`."""
    z = normal_quantile(confidence)
    return math.ceil(z * z * (1 - margin) / max(margin, SMALLEST)) if 0 < margin < 1 else 1
