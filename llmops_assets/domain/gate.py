"""Evaluates gates: evidence in, a verdict with all its reasons out. Unreadable evidence fails.

Also holds the champion rules. `llmops_assets.delivery.gate_evidence` loads the evidence; `llmops_assets.stage` handles
rejections.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field, InstanceOf

from llmops_assets.domain.evaluated_rows import Clearance, EvaluatedRows, of_bound, of_comparison
from llmops_assets.domain.formatting import figure, signed
from llmops_assets.domain.gate_power import Power, power_of
from llmops_assets.domain.gate_rule import SMALLEST_SLICE, Gate, Of
from llmops_assets.domain.keys import short
from llmops_assets.domain.measurement import ALIKE, differences, other_tokenizer
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.preference import Preference
from llmops_assets.domain.records import Measured, Metric
from llmops_assets.domain.served_figures import SERVED_FIGURES, Outcome, Served, judge_bound, judge_comparison
from llmops_assets.domain.verdict import Compared, Verdict

ANOTHER_BASELINE = "set the gate's `baseline` in llmops.yaml to a release or commit that `llmops status` shows"
NO_BASELINE = f"no release or commit of this project with results has this name; {ANOTHER_BASELINE}"


def compute_again(baseline: str) -> str:
    """What to do about a baseline whose results were collected."""
    return f"compute it again with `llmops run --revision {baseline}`, or {ANOTHER_BASELINE}"


class GateResult(Frozen):
    """The result of one condition of a gate."""

    outcome: Literal["passed", "failed", "undecided", "skipped"]
    text: str
    power: Power | None = None


class NoReference(Frozen):
    """There is no value to compare with: this fails, unless the comparison does not apply now."""

    outcome: Literal["failed", "skipped"]
    why: str


class Champion(Frozen):
    """The release that production serves now, as gates need it; or a baseline."""

    release: str
    rows: InstanceOf[EvaluatedRows] | None = Field(
        default=None, description="Those of its report; None if it stored none."
    )
    report: Measured | None = Field(description="Its report on the same rows and metrics; None if it has none.")
    lost: str | None = Field(default=None, description="Why it has no such report and can get none.")
    served: Served | None = Field(default=None, description="Its size, and its speed on the candidate's hardware.")


class Judged(Frozen):
    """The evidence about the candidate."""

    rows: InstanceOf[EvaluatedRows] | None = Field(
        default=None, description="Those of the report; None if it stored none."
    )
    unquantized_rows: InstanceOf[EvaluatedRows] | None = None
    baselines: dict[str, Champion] = Field(default_factory=dict, description="By the name that gates give them.")
    report: Measured | None
    unquantized: Measured | None = None
    champion: Champion | None = None
    served: Served | None = Field(default=None, description="Size and speed, of a served report.")
    preferences: dict[str, Preference | None] = Field(
        default_factory=dict,
        description="Metric that compares with the champion's answers -> what its judge prefers; None: not judged.",
    )
    has_served: bool = Field(
        default=False,
        description="This same release served production before: absolute gates only, so that a "
        "change with good metrics can be reverted in an incident.",
    )


def judge(subject: str, gates: Sequence[Gate], of: Of, evidence: Judged) -> Verdict:
    """Evaluates every gate that applies to `of`. Missing or unreadable evidence fails."""
    champion = evidence.champion
    base = {"subject": subject, "champion": champion.release if champion else None}
    if evidence.report is None:
        return Verdict(**base, report=None, failures=(f"no report on {subject}",))
    results = [r for gate in gates if gate.of == of for r in _results(gate, evidence, evidence.report)]

    def texts(outcome: str) -> tuple[str, ...]:
        return tuple(r.text for r in results if r.outcome == outcome)

    return Verdict(
        **base,
        report=evidence.report.digest,
        failures=texts("failed"),
        undecided=texts("undecided"),
        reasons=texts("passed"),
        skipped=(*texts("skipped"), *_not_beside(evidence.report, champion.report if champion else None)),
        powers=tuple(r.power for r in results if r.power is not None),
        figures=_figures(evidence.report, champion.report if champion else None, evidence.unquantized),
    )


def _figures(report: Measured, champion: Measured | None, unquantized: Measured | None) -> tuple[Compared, ...]:
    def finite(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    def beside(other: Measured | None, metric: Metric) -> float | None:
        if other is None or other.key == report.key or not alike(report, other):
            return None
        return None if other_tokenizer(metric, report, other) else finite(other.value(metric.name))

    if champion is not None and differences(report, champion):
        champion = None  # its figures are not shown beside those that they cannot be compared with
    return tuple(
        Compared(
            metric=m.name,
            value=finite(m.value),
            higher_is_better=m.higher_is_better,
            champion=beside(champion, m),
            unquantized=beside(unquantized, m),
            low=m.low,
            high=m.high,
        )
        for m in report.metrics
    )


def _not_beside(report: Measured, champion: Measured | None) -> tuple[str, ...]:
    """Why a metric is not shown beside the champion's figure."""
    if champion is None or differences(report, champion) or not alike(report, champion):
        return ()
    reasons = (other_tokenizer(metric, report, champion) for metric in report.metrics)
    return tuple(f"not compared with the champion: {why}" for why in reasons if why)


def alike(report: Measured, other: Measured) -> bool:
    """Whether two reports measure the same rows with the same metrics, so that their figures can be compared."""
    return (other.test_digest, other.metrics_digest) == (report.test_digest, report.metrics_digest)


def _results(gate: Gate, evidence: Judged, report: Measured) -> list[GateResult]:
    """One result for each condition of the gate, or a failure if the metric has no value."""
    if gate.metric in evidence.preferences:
        return list(_of_preference(gate, evidence, report))
    metric = next((m for m in report.metrics if m.name == gate.metric), None)
    if metric is None and gate.of == "served" and gate.metric in SERVED_FIGURES:
        return list(_of_served_figure(gate, evidence, report))
    if metric is None and (why := report.refused.get(gate.metric)):
        return [GateResult(outcome="failed", text=f"{gate.metric} has no value that is evidence: {why}")]
    if metric is None:
        known = ", ".join(m.name for m in report.metrics) or "none"
        return [GateResult(outcome="failed", text=f"{gate.metric} was not measured (measured: {known})")]
    if not math.isfinite(metric.value):
        text = f"{gate.metric} is {metric.value}, not a finite number"
        return [GateResult(outcome="failed", text=text)]
    if gate.per is not None:
        return list(_per_slice(gate, gate.per, evidence, report, metric))
    return list(_conditions(gate, evidence, report, metric, _rows_of(evidence.rows, metric.name)))


def _of_served_figure(gate: Gate, evidence: Judged, report: Measured) -> Iterator[GateResult]:
    """The results of a gate on size or speed."""

    def result(found: Outcome) -> GateResult:
        return GateResult(outcome="passed" if found.passed else "failed", text=found.text)

    yield from (result(found) for found in judge_bound(gate, evidence.served))
    if gate.no_worse_than is None:
        return
    other = _compared_release(gate, evidence)
    if isinstance(other, NoReference):
        yield GateResult(outcome=other.outcome, text=f"{gate.metric} against {gate.against}: {other.why}")
    elif other.report is None:
        why = _no_report(gate, other)
        yield GateResult(outcome="failed", text=f"{gate.metric} against {gate.against}: {why}")
    else:
        yield result(judge_comparison(gate, evidence.served, other.served))


def _of_preference(gate: Gate, evidence: Judged, report: Measured) -> Iterator[GateResult]:
    """The results of a gate on a judge's preference between this report's answers and the champion's."""
    other, found = _compared_release(gate, evidence), evidence.preferences[gate.metric]
    if isinstance(other, NoReference):
        skipped = f"skipped: {other.why}" if other.outcome == "skipped" else other.why
        yield GateResult(outcome=other.outcome, text=f"{gate.metric} against the champion: {skipped}")
        return
    why = ""
    if other.report is None:
        why = _no_report(gate, other)
    elif other.report.key == report.key:
        text = f"{gate.metric} against the champion: skipped: both have the same answers"
        yield GateResult(outcome="skipped", text=text)
        return
    elif (differs := differences(report, other.report)) or not alike(report, other.report):
        why = (
            f"measured differently: {', '.join(differs)}" if differs else "its report is on other rows or other metrics"
        )
    elif found is None:
        why = f"its judge has not compared this report with it; `llmops run --rebuild {report.stage} --reason WHY`"
    elif found.refused or not found.judged:
        why = found.refused or "no row has a verdict"
    if why or found is None:
        yield GateResult(outcome="failed", text=f"{gate.metric} against the champion: {why}")
        return
    metric = Metric(name=gate.metric, value=found.value, higher_is_better=True)
    counts = f"; {found.text} against the champion {short(other.release)}"
    for result in _conditions(gate, evidence, report, metric, found.rows(gate.metric)):
        yield result.model_copy(update={"text": result.text + counts})


def _rows_of(rows: EvaluatedRows | None, metric: str) -> EvaluatedRows | None:
    return None if rows is None else rows.of(metric)


def _per_slice(gate: Gate, column: str, evidence: Judged, report: Measured, metric: Metric) -> Iterator[GateResult]:
    rows = _rows_of(evidence.rows, metric.name)
    if rows is None or metric.name not in rows.statistics:
        text = f"{metric.name} per {column}: {_no_interval(rows)}, so no slice has a value"
        yield GateResult(outcome="failed", text=text)
        return
    slices = rows.slices(column)
    if not slices:
        which = "no test row" if rows is evidence.rows else f"none of the rows of {metric.name}"
        yield GateResult(outcome="failed", text=f"{metric.name} per {column}: {which} has the column {column}")
        return
    small = {value: len(numbers) for value, numbers in slices.items() if len(numbers) < SMALLEST_SLICE}
    for value, numbers in slices.items():
        if value not in small:
            picked = rows.only(numbers)
            found = float(picked.values[metric.name](picked.statistics[metric.name].sum(0)))
            here = metric.model_copy(update={"value": found})
            yield from _conditions(gate, evidence, report, here, picked, numbers, f" where {column} is {value}")
    if small:
        listed = ", ".join(f"{value} ({count} rows)" for value, count in list(small.items())[:5])
        more = f" and {len(small) - 5} more" if len(small) > 5 else ""
        text = f"{metric.name} per {column}: not judged, fewer than {SMALLEST_SLICE} rows: {listed}{more}"
        yield GateResult(outcome="undecided" if len(small) == len(slices) else "skipped", text=text)


def _conditions(
    gate: Gate,
    evidence: Judged,
    report: Measured,
    metric: Metric,
    rows: EvaluatedRows | None,
    numbers: tuple[int, ...] | None = None,
    where: str = "",
) -> Iterator[GateResult]:
    """The results of a gate's conditions over the rows of a report, or over a slice of them.

    Args:
        metric: with the value over these rows.
        numbers: those of the slice, within the report; None: all rows.
        where: names the slice.
    """
    measured = f"{metric.name}{where} {figure(metric.value)}"
    for bound, upper, called in ((gate.at_least, False, "minimum"), (gate.at_most, True, "limit")):
        if bound is None:
            continue
        found = None
        if gate.confidence is not None and rows is not None:
            found = of_bound(rows, metric.name, bound, upper, gate.confidence)
        text = f"{measured}, {called} {figure(bound)}"
        if found is None:
            text += f" ({_no_interval(rows)}: the value is judged)" if gate.confidence is not None else ""
            holds = metric.value <= bound if upper else metric.value >= bound
            yield GateResult(outcome="passed" if holds else "failed", text=text)
        else:
            sign = -1.0 if upper else 1.0
            power = power_of(gate, f"{metric.name}{where}, {called} {figure(bound)}", found, bound, sign)
            yield _result(found, text, bound, sign, "value", power)
    if gate.no_worse_than:
        yield _compared(gate, evidence, report, metric, rows, numbers, where)


def _compared(
    gate: Gate,
    evidence: Judged,
    report: Measured,
    metric: Metric,
    rows: EvaluatedRows | None,
    numbers: tuple[int, ...] | None,
    where: str,
) -> GateResult:
    """The result of a gate's comparison."""
    measured = f"{metric.name}{where} {figure(metric.value)}"
    reference = _reference(gate, metric, evidence, report)
    if isinstance(reference, NoReference):
        why = f"skipped: {reference.why}" if reference.outcome == "skipped" else reference.why
        return GateResult(outcome=reference.outcome, text=f"{measured} against {gate.against}: {why}")
    value, others = reference
    if numbers is not None:
        whole = _rows_of(evidence.rows, metric.name)
        others = others.like(whole) if others is not None and whole is not None else None
        if others is None or metric.name not in others.statistics:
            why = "its report has not the same rows, so no slice can be compared"
            return GateResult(outcome="failed", text=f"{measured} against {gate.against}: {why}")
        others = others.only(numbers)
        value = float(others.values[metric.name](others.statistics[metric.name].sum(0)))
    margin, sign = gate.tolerance(), 1.0 if metric.higher_is_better else -1.0
    alike = f" ({ALIKE})" if gate.no_worse_than != "unquantized" and report.measured_with else ""
    text = f"{measured}, {gate.against} {figure(value)}, margin {margin}{alike}"
    found = None
    if rows is not None and others is not None:
        allowed = metric.higher_is_better
        found = of_comparison(rows, others, metric.name, allowed, margin.of_any, gate.certainty)
    if found is None:
        note = f" ({_no_interval(rows)}: the value is judged)"
        holds = sign * (metric.value - value) >= -margin.of(value)
        return GateResult(outcome="passed" if holds else "failed", text=text + note)
    condition = f"{metric.name}{where} against {gate.against}, margin {margin}"
    power = power_of(gate, condition, found, margin.of(value), 0.0)
    return _result(found, text, -margin.of(value), sign, "difference", power)


def _result(found: Clearance, text: str, bound: float, sign: float, what: str, power: Power | None) -> GateResult:
    """A clearance as a result: the interval of the difference or of the value, and what would decide.

    Args:
        bound: what the clearance is measured from, as a gain for a difference.
        sign: -1 if lower is better.
    """
    base = sign * bound if what == "difference" else bound
    ends = sorted(base + sign * bound for bound in found.bounds)
    shown = " to ".join((signed if what == "difference" else figure)(end) for end in ends)
    text += f"; {what} {shown} ({found.confidence * 100:g}%, {found.rows} rows)"
    if found.outcome == "undecided":
        needed = found.deciding_rows
        text += ", undecided: " + (f"about {needed:,} rows would decide" if needed else "no number of rows decides")
    text += f", smallest visible {figure(found.visible)}" if what == "difference" or power else ""
    return GateResult(outcome=found.outcome, text=text, power=power)


def _no_interval(rows: EvaluatedRows | None) -> str:
    if rows is None:
        return "no interval: a report stored no rows"
    return "no interval: the metric gives one value for all rows"


def _reference(
    gate: Gate, metric: Metric, evidence: Judged, report: Measured
) -> tuple[float, EvaluatedRows | None] | NoReference:
    """The reference value with its rows, or why there is none."""
    rows = evidence.unquantized_rows
    if gate.no_worse_than == "unquantized":
        other = evidence.unquantized
        if other is None:
            return NoReference(outcome="failed", why="the checkpoint's own report is missing")
    else:
        found = _compared_release(gate, evidence)
        if isinstance(found, NoReference):
            return found
        other, rows = found.report, found.rows
        if other is None:
            return NoReference(outcome="failed", why=_no_report(gate, found))
    if gate.no_worse_than != "unquantized" and (differs := differences(report, other)):
        again = f"`llmops run --rebuild {report.stage} --reason WHY`"
        why = f"measured differently: {', '.join(differs)}; measure this one again, with {again}"
        return NoReference(outcome="failed", why=why)
    if not alike(report, other):
        return NoReference(outcome="failed", why="its report is on other rows or other metrics")
    if incomparable := other_tokenizer(metric, report, other):
        return NoReference(outcome="failed", why=incomparable)
    value = other.value(gate.metric)
    if value is None or not math.isfinite(value):
        return NoReference(outcome="failed", why="its report does not contain this metric")
    return value, _rows_of(rows, gate.metric)


def _compared_release(gate: Gate, evidence: Judged) -> Champion | NoReference:
    """The champion or the baseline that a gate compares with, or why it compares with none."""
    if evidence.has_served:
        return NoReference(outcome="skipped", why="this release has served production before")
    found = evidence.champion if gate.baseline is None else evidence.baselines.get(gate.baseline)
    if found is not None:
        return found
    if gate.baseline is None:
        return NoReference(outcome="skipped", why="there is no champion yet")
    return NoReference(outcome="failed", why=NO_BASELINE)


def _no_report(gate: Gate, found: Champion) -> str:
    name = f"the {'baseline' if gate.baseline else 'champion'} {short(found.release)}"
    why = f"{name} has no readable report on these rows"
    if found.lost:
        why += f": {found.lost}"
    if found.lost and gate.baseline:
        why += f"; {compute_again(gate.baseline)}"
    return why
