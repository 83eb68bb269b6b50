"""The rows of evaluations as gates read them, and the paired comparison of two models on the same rows. Pure.

Reading rows.jsonl belongs in `llmops_assets.delivery.row_evidence`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmops_assets.domain.bootstrap import Resampled, Statistic
from llmops_assets.domain.intervals import Bounds, normal_quantile, rate_bounds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

OWN_COLUMNS = ("input", "output", "messages")
"""Columns of a row that name no slice."""
COLUMN_CHARACTERS = 200
"""A longer value of a column names no slice."""
POWER = 0.8
"""The chance to see a difference of the smallest visible size."""
FEW = 10
"""With fewer rows that differ, resampling does not see how much a row can lose."""


def slice_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that can name a slice: short texts, numbers, truth values and null."""
    return {
        name: value
        for name, value in row.items()
        if (value is None or isinstance(value, bool | int | float | str)) and len(str(value)) <= COLUMN_CHARACTERS
    }


@dataclass(frozen=True, eq=False)
class EvaluatedRows:
    """The statistics of one report's rows. Equal only to itself, so that a cache can be keyed by it."""

    digests: tuple[str, ...]
    """Of the rows' contents."""
    statistics: Mapping[str, "Array"]
    """Metric → array of (rows, statistics). A metric without statistics of every row is absent."""
    values: Mapping[str, Statistic]
    """Metric → its value as a function of summed statistics."""
    columns: tuple[Mapping[str, Any], ...] = field(default=())
    own: Mapping[str, "EvaluatedRows"] = field(default_factory=dict)
    """Metric that has rows of its own → these rows."""

    def of(self, metric: str) -> "EvaluatedRows":
        """The rows that a metric is measured on."""
        return self.own.get(metric, self)

    def slices(self, column: str) -> dict[str, tuple[int, ...]]:
        """Value of a column as text → the rows that have it; rows without the column are left out."""
        found: dict[str, list[int]] = defaultdict(list)
        for number, columns in enumerate(self.columns):
            if columns.get(column) is not None:
                found[str(columns[column])].append(number)
        return {value: tuple(numbers) for value, numbers in sorted(found.items())}

    def only(self, numbers: tuple[int, ...]) -> "EvaluatedRows":
        """These rows."""
        picked = list(numbers)
        return EvaluatedRows(
            digests=tuple(self.digests[i] for i in picked),
            statistics={name: rows[picked] for name, rows in self.statistics.items()},
            values=self.values,
            columns=tuple(self.columns[i] for i in picked) if self.columns else (),
        )

    def like(self, other: "EvaluatedRows") -> "EvaluatedRows | None":
        """These rows in the order of another report's; None if one of its rows is not here."""
        at: dict[str, list[int]] = defaultdict(list)
        for number, digest in reversed(list(enumerate(self.digests))):
            at[digest].append(number)
        try:
            return self.only(tuple(at[digest].pop() for digest in other.digests))
        except IndexError:
            return None


@dataclass(frozen=True)
class Clearance:
    """How far a figure is on the right side of what a gate allows, in the metric's unit; negative: on the wrong one."""

    value: float
    bounds: Bounds
    """Each bound holds on its own with the gate's confidence."""
    error: float
    """Standard error."""
    rows: int
    confidence: float

    @property
    def outcome(self) -> str:
        if self.bounds.lower >= 0:
            return "passed"
        return "failed" if self.bounds.upper < 0 else "undecided"

    @property
    def deciding_rows(self) -> int | None:
        """About how many rows would decide, if the figures stay as they are; None if none would, or it is unknown."""
        if not self.value or not math.isfinite(self.error) or not self.error:
            return None
        needed = self.rows * (self.visible / self.value) ** 2
        # An undecided result needs more rows than there are, whatever the approximation says.
        return max(math.ceil(needed), self.rows + 1) if needed < 1e7 else None

    @property
    def visible(self) -> float:
        """The smallest difference that this number of rows shows with 80% power."""
        return reach(self.confidence, self.rows) * self.error


def student_quantile(confidence: float, rows: int) -> float:
    """How many standard errors of so many rows a one-sided bound is away from the value."""
    from scipy.special import stdtrit

    return float(stdtrit(max(rows - 1, 1), confidence))


def reach(confidence: float, rows: int) -> float:
    """How many standard errors a difference must have, so that 80% of samples of so many rows show it."""
    return student_quantile(confidence, rows) + normal_quantile(POWER)


def of_bound(rows: EvaluatedRows, metric: str, bound: float, upper: bool, confidence: float) -> Clearance | None:
    """Clearance of a bound on the metric itself; None without statistics."""
    if metric not in rows.statistics:
        return None
    statistics, value, sign = rows.statistics[metric], rows.values[metric], -1.0 if upper else 1.0
    found = _clearance(Resampled(statistics), lambda sums: sign * (value(sums) - bound), confidence)
    exact = _exact(statistics, confidence)
    if exact is None:
        return found
    ends = sorted(sign * (end - bound) for end in exact)
    error = max(found.error, (found.value - ends[0]) / normal_quantile(confidence))
    return Clearance(found.value, Bounds(*ends), error, found.rows, confidence)


def interval(statistics: "Array", value: Statistic, confidence: float) -> Bounds:
    """Bounds of a metric over these rows, each on its own with this confidence."""
    return _exact(statistics, confidence) or Resampled(statistics).bounds(value, confidence)


def of_comparison(
    rows: EvaluatedRows,
    other: EvaluatedRows,
    metric: str,
    higher_is_better: bool,
    margin: Callable[[Any], Any],
    confidence: float,
) -> Clearance | None:
    """Clearance of "no worse than the other by more than the margin" on the same rows, paired.

    Args:
        margin: the other's value → the tolerated loss. A relative margin varies with the rows drawn, like the value.

    Returns:
        None if one of them has no statistics of the metric, or not the same rows.
    """
    import numpy as np

    paired = other.like(rows) if len(other.digests) == len(rows.digests) else None
    if paired is None or metric not in rows.statistics or metric not in paired.statistics:
        return None
    mine, theirs = rows.statistics[metric], paired.statistics[metric]
    value, k, sign = rows.values[metric], mine.shape[1], 1.0 if higher_is_better else -1.0

    def clear(sums: "Array") -> "Array":
        reference = value(sums[..., k:])
        return np.asarray(sign * (value(sums[..., :k]) - reference) + margin(reference))

    resampled = Resampled(np.concatenate([mine, theirs], axis=1))
    differ = (mine != theirs).any(1)
    rate = _is_rate(mine) and _is_rate(theirs)
    allowed = float(margin(value(theirs.sum(0))))
    if not (rate or differ.any()):  # equal on every row
        return Clearance(allowed, Bounds(allowed, allowed), 0.0, len(differ), confidence)
    found = _clearance(resampled, clear, confidence)
    if differ.sum() >= min(FEW, len(differ)):
        return found
    # Few rows differ. Resampling them says nothing of rows that were not drawn, so the share of rows that lose is
    # bounded exactly, and each is taken to lose as much as the worst one seen, or all where a row is right or wrong.
    effects = clear(resampled.sums) - clear(resampled.sums - resampled.columns)
    lost, won = int((differ & (effects < 0)).sum()), int((differ & (effects > 0)).sum())
    if rate:
        gains = sign * (mine[:, 0] - theirs[:, 0])
        lost, won, worst = int((gains < 0).sum()), int((gains > 0).sum()), 1.0
    else:
        worst = float(np.abs(effects[differ]).max()) * len(differ)
    total = len(differ)
    lower = allowed - worst * rate_bounds(lost, total, confidence).upper
    upper = allowed + worst * rate_bounds(won, total, confidence).upper
    bounds = Bounds(min(found.bounds.lower, lower), max(found.bounds.upper, upper))
    error = max(found.error, (found.value - lower) / normal_quantile(confidence))
    return Clearance(found.value, bounds, error, found.rows, confidence)


def _exact(statistics: "Array", confidence: float) -> Bounds | None:
    """Bounds that hold where resampling says too much: five right answers would show that all are right, for certain.

    Of a rate; and of a mean of shares from 0 to 1 that are equal on every row, such as a judge's ties: at most so many
    others are not equal that the rows would have shown one with this confidence, and those may be 0 or 1. None: else.
    """
    if _is_rate(statistics):
        return rate_bounds(round(float(statistics[:, 0].sum())), len(statistics), confidence)
    value, rows = float(statistics[0, 0]), len(statistics)
    if rows < 2 or statistics.shape[1] != 2 or not (statistics == (value, 1)).all() or not 0 <= value <= 1:
        return None
    others = rate_bounds(0, rows, confidence).upper
    return Bounds(value - others * value, value + others * (1 - value))


def _is_rate(statistics: "Array") -> bool:
    """Whether each row is right or wrong: 0 or 1, a mean over the rows."""
    import numpy as np

    return bool(statistics.shape[1] == 2 and (statistics[:, 1] == 1).all() and np.isin(statistics[:, 0], (0, 1)).all())


def _clearance(resampled: Resampled, clear: Statistic, confidence: float) -> Clearance:
    import numpy as np

    with np.errstate(all="ignore"):
        value, error = float(clear(resampled.sums)), resampled.error(clear)
    return Clearance(value, resampled.bounds(clear, confidence), error, resampled.rows, confidence)
