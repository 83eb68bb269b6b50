"""What a gate with an interval can tell with so many rows: its power and its smallest visible difference. Pure.

A verdict states it for the rows that it judged; `llmops plan` states it ahead, from the rows of earlier reports.
"""

import math
from collections.abc import Iterator

from pydantic import Field

from llmops_assets.domain.evaluated_rows import (
    Clearance,
    EvaluatedRows,
    of_bound,
    of_comparison,
    reach,
    student_quantile,
)
from llmops_assets.domain.formatting import figure, signed
from llmops_assets.domain.gate_rule import SMALLEST_SLICE, Gate
from llmops_assets.domain.intervals import Bounds, normal_cdf
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import Metric

MOST_ROWS = 1e7
"""Above, no number of rows is named: nobody evaluates more."""


class Power(Frozen):
    """The power of one condition of a gate, by the normal approximation of its interval.

    A condition is decided by its clearance: how far a figure is on the right side of what is allowed. With the standard
    error e of the clearance, a true clearance of `visible` = (t + z) e passes in 80% of evaluations, and one of
    -`visible` fails in 80%; t is Student's quantile of the gate's confidence, z the normal quantile of 80%.
    """

    condition: str = Field(description="The metric, the slice and the condition, as text.")
    of: str
    rows: int = Field(description="Rows that the gate judges.")
    confidence: float
    visible: float = Field(description="The smallest difference that is seen with 80% power, in the metric's unit.")
    compares: bool = Field(description="Against another model; otherwise against a bound.")
    passes_at: float = Field(
        description="This and better passes in 80% of evaluations. The true value of the metric; of a comparison the "
        "true change from the reference, as a gain (negative: a loss)."
    )
    fails_at: float = Field(description="This and worse fails in 80% of evaluations; in the same unit.")
    passes: float = Field(description="Chance that an equal model, or this same model on other rows, passes.")
    undecided: float = Field(description="Chance that it is undecided.")
    deciding_rows: int | None = Field(description="Rows that decide on it with 80% power; None: no number does.")
    paired: bool = Field(
        default=True, description="False: known from one report alone, as if the answers of two models were unrelated."
    )

    @property
    def probably_undecided(self) -> bool:
        return self.undecided > 0.5

    @property
    def text(self) -> str:
        shown = signed if self.compares else figure
        what, whose = ("change", "an equal model") if self.compares else ("value", "the same model")
        said = (
            f"{self.condition}, {self.rows:,} rows: smallest visible difference {figure(self.visible)}; "
            f"a true {what} of {shown(self.passes_at)} or better passes, of {shown(self.fails_at)} or worse fails "
            f"(80% power); "
            f"{whose} passes in {self.passes:.0%} and is undecided in {self.undecided:.0%} of evaluations"
        )
        if not self.paired:
            said += " (at worst: known from one report alone)"
        if self.deciding_rows is None:
            return f"{said}; no number of rows decides"
        more = self.deciding_rows > self.rows
        return f"{said}; about {self.deciding_rows:,} rows would decide" if more else said


def power_of(
    gate: Gate, condition: str, found: Clearance, allowed: float, sign: float, rows: int | None = None
) -> Power | None:
    """The power of a condition whose clearance was measured; None if the rows show no spread to tell it from.

    Args:
        allowed: the tolerated loss of a comparison (`compares`), or the bound.
        sign: 0 for a comparison; of a bound 1 if it is a minimum, -1 if it is a maximum.
        rows: how many will be judged; None: as many as were measured.
    """
    if not found.error or not math.isfinite(found.error) or found.rows < 2 or rows == 0:
        return None
    count = found.rows if rows is None else rows
    error = found.error * math.sqrt(found.rows / count)
    visible, compares = reach(found.confidence, count) * error, sign == 0
    true = allowed if compares else found.value
    base, direction = (-allowed, 1.0) if compares else (allowed, sign)
    quantile = student_quantile(found.confidence, count)
    passes, fails = normal_cdf(true / error - quantile), normal_cdf(-true / error - quantile)
    needed = count * (visible / true) ** 2 if true else math.inf
    return Power(
        condition=condition,
        of=gate.of,
        rows=count,
        confidence=found.confidence,
        visible=visible,
        compares=compares,
        passes_at=base + direction * visible,
        fails_at=base - direction * visible,
        passes=passes,
        undecided=max(0.0, 1 - passes - fails),
        deciding_rows=math.ceil(needed) if needed < MOST_ROWS else None,
    )


def expected(
    gate: Gate, metric: Metric, rows: EvaluatedRows, other: EvaluatedRows | None, share: float = 1.0
) -> Iterator[Power]:
    """The power that a gate will have, from the rows of earlier reports.

    Args:
        rows: of the report that the gate will compare with, or that the next one will be like.
        other: those of another model on the same rows; None: there is none, and the worst case is stated.
        share: how many rows will be judged, over those of these reports.
    """
    if metric.name not in rows.statistics:
        return
    pieces: dict[str, tuple[int, ...] | None] = {"": None}
    if gate.per is not None:
        slices = rows.slices(gate.per).items()
        pieces = {f" where {gate.per} is {v}": n for v, n in slices if round(len(n) * share) >= SMALLEST_SLICE}
    paired = other.like(rows) if other is not None else None
    for where, numbers in pieces.items():
        mine = rows if numbers is None else rows.only(numbers)
        theirs = paired if numbers is None or paired is None else paired.only(numbers)
        count = round(len(mine.digests) * share)
        for bound, upper in ((gate.at_least, False), (gate.at_most, True)):
            if bound is None or gate.confidence is None:
                continue
            found = of_bound(mine, metric.name, bound, upper, gate.confidence)
            condition = f"{metric.name}{where}, {'limit' if upper else 'minimum'} {figure(bound)}"
            if found and (power := power_of(gate, condition, found, bound, -1.0 if upper else 1.0, count)):
                yield power
        if gate.no_worse_than:
            condition = f"{metric.name}{where} against {gate.against}, margin {gate.tolerance()}"
            yield from _compared(gate, condition, metric, mine, theirs, count)


def _compared(
    gate: Gate, condition: str, metric: Metric, rows: EvaluatedRows, other: EvaluatedRows | None, count: int
) -> Iterator[Power]:
    margin = gate.tolerance()
    value = float(rows.values[metric.name](rows.statistics[metric.name].sum(0)))
    found = None
    if other is not None:
        better = metric.higher_is_better
        found = of_comparison(other, rows, metric.name, better, margin.of_any, gate.certainty)
    power = power_of(gate, condition, found, margin.of(value), 0.0, count) if found else None
    if power is None:
        alone = of_bound(rows, metric.name, 0.0, False, gate.certainty)
        if alone is None:
            return
        # The difference of two unrelated samples; models that answer alike differ less.
        worst = Clearance(value, Bounds(-math.inf, math.inf), alone.error * math.sqrt(2), alone.rows, gate.certainty)
        power = power_of(gate, condition, worst, margin.of(value), 0.0, count)
        power = power.model_copy(update={"paired": False}) if power else None
    if power:
        yield power
