"""How long a plan takes and what it costs, from earlier runs of the same stages in the same project. Pure.

A figure is the median of the last `LAST` runs with their range, never one number alone. A stage without a comparable
run is unknown: it is named, and left out of no sum silently. Times are scaled only where what they grow with is known.
`delivery.estimates` reads the history; `domain.stage_cost` says what a commit did cost.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from pydantic import Field

from llmops_assets.domain.formatting import figure, time_span
from llmops_assets.domain.models import Frozen

LAST = 10
"""Runs of a stage that an estimate looks at: older ones had other code and machines."""


class PastRun(Frozen):
    """One earlier execution of a stage."""

    seconds: float = Field(description="Wall time.")
    hardware: str = Field(default="", description="Hardware class, as in `compute.price_per_hour`.")
    size: float | None = Field(default=None, description="What it worked on: training steps, or rows. None: unknown.")
    growing: float | None = Field(
        default=None, description="Seconds of it that grow with the size. None: unknown, from none to all of them."
    )


class Span(Frozen):
    """A figure with its uncertainty."""

    low: float
    median: float
    high: float

    def __add__(self, other: "Span") -> "Span":
        return Span(low=self.low + other.low, median=self.median + other.median, high=self.high + other.high)


NOTHING = Span(low=0.0, median=0.0, high=0.0)


class StageEstimate(Frozen):
    stage: str
    sure: bool = Field(description="Whether it runs for sure; if not, it may turn out that its inputs did not change.")
    runs: int = Field(description="Earlier runs that the figures come from.")
    seconds: Span | None = Field(description="None: unknown.")
    cost: Span | None = Field(description="None: unknown, or no prices are configured, or the stage has no price.")
    note: str = ""


class PlanEstimate(Frozen):
    """The estimate of a plan. The low ends count only what runs for sure; median and high ends everything that may."""

    stages: tuple[StageEstimate, ...]
    seconds: Span
    cost: Span | None = Field(description="Of what is known; None: no prices are configured.")
    currency: str = ""
    unknown: tuple[str, ...] = Field(default=(), description="Stages whose time is unknown; the sums lack them.")
    unpriced: tuple[str, ...] = Field(
        default=(), description="Computed stages whose cost is unknown; the sum lacks them."
    )

    @property
    def highest_cost(self) -> float | None:
        """The upper end of the cost; None if any part of it is unknown."""
        return None if self.cost is None or self.unpriced else self.cost.high

    @property
    def text(self) -> str:
        if not self.stages:
            return "nothing is computed"
        if not any(s.seconds for s in self.stages):
            return "no history yet: no stage that it computes has run in this project"
        parts = [in_words(self.seconds)]
        if self.cost is not None and any(s.cost for s in self.stages):
            parts.append(money(self.cost, self.currency))
        lacking = f", without {', '.join(self.unknown)} (no history yet)" if self.unknown else ""
        others = [s for s in self.unpriced if s not in self.unknown] if self.cost is not None else []
        unpriced = f", without the cost of {', '.join(others)} (no price for its hardware)" if others else ""
        return ", ".join(parts) + lacking + unpriced


def estimate_stage(
    stage: str,
    sure: bool,
    runs: Sequence[PastRun],
    *,
    size: float | None = None,
    what: str = "",
    times: int = 1,
    prices: Mapping[str, float] | None = None,
) -> StageEstimate:
    """The estimate of one stage.

    Args:
        sure: whether it runs for sure.
        runs: comparable earlier runs, newest first; only the first `LAST` count.
        size: what it will work on; None: not known, so nothing is scaled.
        what: the unit of `size`, for the note.
        times: how often it is computed: 2 if the champion is measured first.
        prices: hardware class → price of one hour; None: the stage has no price.
    """
    recent = list(runs[:LAST])
    if not recent:
        return StageEstimate(stage=stage, sure=sure, runs=0, seconds=None, cost=None, note="no history yet")
    spans = [_scaled(run, size) for run in recent]
    scaled = size is not None and any(run.size not in (None, size) for run in recent)
    seconds = _together(spans, times)
    costs = None
    lacking = sorted({run.hardware or "unknown hardware" for run in recent if run.hardware not in (prices or {})})
    if prices and not lacking:
        costs = _together([_times(s, prices[r.hardware] / 3600) for s, r in zip(spans, recent, strict=True)], times)
    notes = [f"scaled to {figure(size)} {what}"] if scaled else []
    notes += ["the champion is measured too"] if times > 1 else []
    notes += [f"no price for {', '.join(lacking)}"] if prices and lacking else []
    return StageEstimate(stage=stage, sure=sure, runs=len(recent), seconds=seconds, cost=costs, note="; ".join(notes))


def _scaled(run: PastRun, size: float | None) -> Span:
    """The run's time at another size. If it is not known how much of it grows, the range goes from nothing to all."""
    if size is None or not run.size or run.size == size:
        return Span(low=run.seconds, median=run.seconds, high=run.seconds)
    factor = size / run.size
    if run.growing is not None:
        seconds = max(run.seconds - run.growing, 0.0) + run.growing * factor
        return Span(low=seconds, median=seconds, high=seconds)
    ends = sorted((run.seconds, run.seconds * factor))
    return Span(low=ends[0], median=run.seconds * factor, high=ends[1])


def _together(spans: Sequence[Span], times: int) -> Span:
    together = Span(
        low=min(s.low for s in spans), median=median(s.median for s in spans), high=max(s.high for s in spans)
    )
    return _times(together, times)


def _times(span: Span, factor: float) -> Span:
    return Span(low=span.low * factor, median=span.median * factor, high=span.high * factor)


def estimate_plan(stages: Iterable[StageEstimate], priced: Iterable[str], currency: str | None) -> PlanEstimate:
    """The sum over the stages that a plan runs.

    Args:
        priced: the stages that cost something: those that compute.
        currency: of the prices; None: no prices are configured.
    """
    found, paid = tuple(stages), set(priced)
    seconds, cost = NOTHING, NOTHING
    for stage in found:
        seconds += _counted(stage.seconds, stage.sure)
        cost += _counted(stage.cost, stage.sure)
    return PlanEstimate(
        stages=found,
        seconds=seconds,
        cost=cost if currency is not None else None,
        currency=currency or "",
        unknown=tuple(s.stage for s in found if s.seconds is None),
        unpriced=tuple(s.stage for s in found if s.cost is None and s.stage in paid) if currency is not None else (),
    )


def _counted(span: Span | None, sure: bool) -> Span:
    if span is None:
        return NOTHING
    return span if sure else span.model_copy(update={"low": 0.0})


def in_words(span: Span) -> str:
    """About a time: its median, and the range if there is one."""
    about = f"about {time_span(span.median)}"
    low, high = time_span(span.low), time_span(span.high)
    return about if low == high else f"{about} ({low} to {high})"


def money(span: Span, currency: str) -> str:
    low, middle, high = (figure(value) for value in (span.low, span.median, span.high))
    return f"about {middle} {currency}" if low == high else f"about {middle} {currency} ({low} to {high})"
