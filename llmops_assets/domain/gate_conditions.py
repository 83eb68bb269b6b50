"""The conditions of a gate on one metric: bounds and a comparison, over all rows or a slice, with intervals. Pure."""

from collections.abc import Iterator

from llmops_assets.domain.evaluated_rows import Clearance, EvaluatedRows, of_bound, of_comparison
from llmops_assets.domain.formatting import figure, signed
from llmops_assets.domain.gate_inputs import GateResult, Judged, NoReference
from llmops_assets.domain.gate_power import Power, power_of
from llmops_assets.domain.gate_reference import reference_of, rows_of
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.measurement import ALIKE
from llmops_assets.domain.records import Measured, Metric


def conditions(
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
            text += f" ({no_interval(rows)}: the value is judged)" if gate.confidence is not None else ""
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
    reference = reference_of(gate, metric, evidence, report)
    if isinstance(reference, NoReference):
        why = f"skipped: {reference.why}" if reference.outcome == "skipped" else reference.why
        return GateResult(outcome=reference.outcome, text=f"{measured} against {gate.against}: {why}")
    value, others = reference
    if numbers is not None:
        whole = rows_of(evidence.rows, metric.name)
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
        note = f" ({no_interval(rows)}: the value is judged)"
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


def no_interval(rows: EvaluatedRows | None) -> str:
    if rows is None:
        return "no interval: a report stored no rows"
    return "no interval: the metric gives one value for all rows"
