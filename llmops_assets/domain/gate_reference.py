"""Which value a gate compares with: that of the champion, a baseline or the model before quantization. Pure.

The champion rules: without a champion a comparison is skipped, and a release that served production before is judged
by absolute gates only. A value that was measured differently is no reference; the reason says what to do.
"""

import math

from llmops_assets.domain.evaluated_rows import EvaluatedRows
from llmops_assets.domain.gate_inputs import NO_BASELINE, Champion, Judged, NoReference, compute_again
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.keys import short
from llmops_assets.domain.measurement import differences, other_tokenizer
from llmops_assets.domain.records import Measured, Metric


def alike(report: Measured, other: Measured) -> bool:
    """Whether two reports measure the same rows with the same metrics, so that their figures can be compared."""
    return (other.test_digest, other.metrics_digest) == (report.test_digest, report.metrics_digest)


def rows_of(rows: EvaluatedRows | None, metric: str) -> EvaluatedRows | None:
    return None if rows is None else rows.of(metric)


def reference_of(
    gate: Gate, metric: Metric, evidence: Judged, report: Measured
) -> tuple[float, EvaluatedRows | None] | NoReference:
    """The reference value with its rows, or why there is none."""
    rows = evidence.unquantized_rows
    if gate.no_worse_than == "unquantized":
        other = evidence.unquantized
        if other is None:
            return NoReference(outcome="failed", why="the checkpoint's own report is missing")
    else:
        found = compared_release(gate, evidence)
        if isinstance(found, NoReference):
            return found
        other, rows = found.report, found.rows
        if other is None:
            return NoReference(outcome="failed", why=no_report(gate, found))
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
    return value, rows_of(rows, gate.metric)


def compared_release(gate: Gate, evidence: Judged) -> Champion | NoReference:
    """The champion or the baseline that a gate compares with, or why it compares with none."""
    if evidence.has_served:
        return NoReference(outcome="skipped", why="this release has served production before")
    found = evidence.champion if gate.baseline is None else evidence.baselines.get(gate.baseline)
    if found is not None:
        return found
    if gate.baseline is None:
        return NoReference(outcome="skipped", why="there is no champion yet")
    return NoReference(outcome="failed", why=NO_BASELINE)


def no_report(gate: Gate, found: Champion) -> str:
    name = f"the {'baseline' if gate.baseline else 'champion'} {short(found.release)}"
    why = f"{name} has no readable report on these rows"
    if found.lost:
        why += f": {found.lost}"
    if found.lost and gate.baseline:
        why += f"; {compute_again(gate.baseline)}"
    return why
