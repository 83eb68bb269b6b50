"""Evaluates gates: evidence in, a verdict with all its reasons out. Unreadable evidence fails.

`gate_rule` is a gate as llmops.yaml has it, `gate_inputs` the evidence, `gate_reference` what it compares with (the
champion rules), `gate_conditions` its conditions. `llmops_assets.delivery.gate_evidence` loads the evidence;
`llmops_assets.stage` handles rejections.
"""

import math
from collections.abc import Iterator, Sequence

from llmops_assets.domain.gate_conditions import conditions, no_interval
from llmops_assets.domain.gate_inputs import GateResult, Judged, NoReference
from llmops_assets.domain.gate_reference import alike, compared_release, no_report, rows_of
from llmops_assets.domain.gate_rule import SMALLEST_SLICE, Gate, Of
from llmops_assets.domain.keys import short
from llmops_assets.domain.measurement import differences, other_tokenizer
from llmops_assets.domain.records import Measured, Metric
from llmops_assets.domain.served_figures import SERVED_FIGURES, Outcome, judge_bound, judge_comparison
from llmops_assets.domain.verdict import Compared, Verdict


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
    return list(conditions(gate, evidence, report, metric, rows_of(evidence.rows, metric.name)))


def _of_served_figure(gate: Gate, evidence: Judged, report: Measured) -> Iterator[GateResult]:
    """The results of a gate on size or speed."""

    def result(found: Outcome) -> GateResult:
        return GateResult(outcome="passed" if found.passed else "failed", text=found.text)

    yield from (result(found) for found in judge_bound(gate, evidence.served))
    if gate.no_worse_than is None:
        return
    other = compared_release(gate, evidence)
    if isinstance(other, NoReference):
        yield GateResult(outcome=other.outcome, text=f"{gate.metric} against {gate.against}: {other.why}")
    elif other.report is None:
        why = no_report(gate, other)
        yield GateResult(outcome="failed", text=f"{gate.metric} against {gate.against}: {why}")
    else:
        yield result(judge_comparison(gate, evidence.served, other.served))


def _of_preference(gate: Gate, evidence: Judged, report: Measured) -> Iterator[GateResult]:
    """The results of a gate on a judge's preference between this report's answers and the champion's."""
    other, found = compared_release(gate, evidence), evidence.preferences[gate.metric]
    if isinstance(other, NoReference):
        skipped = f"skipped: {other.why}" if other.outcome == "skipped" else other.why
        yield GateResult(outcome=other.outcome, text=f"{gate.metric} against the champion: {skipped}")
        return
    why = ""
    if other.report is None:
        why = no_report(gate, other)
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
    for result in conditions(gate, evidence, report, metric, found.rows(gate.metric)):
        yield result.model_copy(update={"text": result.text + counts})


def _per_slice(gate: Gate, column: str, evidence: Judged, report: Measured, metric: Metric) -> Iterator[GateResult]:
    rows = rows_of(evidence.rows, metric.name)
    if rows is None or metric.name not in rows.statistics:
        text = f"{metric.name} per {column}: {no_interval(rows)}, so no slice has a value"
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
            yield from conditions(gate, evidence, report, here, picked, numbers, f" where {column} is {value}")
    if small:
        listed = ", ".join(f"{value} ({count} rows)" for value, count in list(small.items())[:5])
        more = f" and {len(small) - 5} more" if len(small) > 5 else ""
        text = f"{metric.name} per {column}: not judged, fewer than {SMALLEST_SLICE} rows: {listed}{more}"
        yield GateResult(outcome="undecided" if len(small) == len(slices) else "skipped", text=text)
