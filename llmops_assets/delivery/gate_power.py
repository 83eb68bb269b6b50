"""What a revision's gates can tell, from the rows of reports that exist. `domain.gate_power` computes it."""

from collections.abc import Iterator
from contextlib import suppress

from pydantic import Field

from llmops_assets.config.metrics import name_of, part_of
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.references import Candidate, baseline, champion_now
from llmops_assets.delivery.row_evidence import rows_of
from llmops_assets.domain.evaluated_rows import EvaluatedRows
from llmops_assets.domain.gate_inputs import NO_BASELINE, compute_again
from llmops_assets.domain.gate_power import Power, expected
from llmops_assets.domain.gate_rule import Gate, Of
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import DatasetVersion, Measured, Record
from llmops_assets.domain.served_figures import SERVED_FIGURES
from resources.artifact_store.store import StoreError
from resources.project_source.errors import SourceError

STAGE = {"checkpoint": "evaluation_report", "served": "served_evaluation_report"}
RECENT = 5
"""Requests whose reports are looked at."""


class GateForecast(Frozen):
    """The power of the gates that judge by an interval."""

    powers: tuple[Power, ...] = ()
    notes: tuple[str, ...] = Field(default=(), description="Gates whose power is not known yet, and why.")

    @property
    def lines(self) -> tuple[str, ...]:
        """One line per condition, the probably undecided first."""
        ordered = sorted(self.powers, key=lambda p: not p.probably_undecided)
        named = (f"probably undecided: {p.text}" if p.probably_undecided else p.text for p in ordered)
        return (*named, *self.notes)


def forecast(run: Candidate) -> GateForecast:
    """The power of this revision's gates with its number of test rows, as far as earlier reports tell it.

    Raises:
        StoreDenied: the artifact store does not answer.
    """
    powers: list[Power] = []
    notes: list[str] = []
    for gate in run.at.policy.gates:
        if gate.baseline and (why := _cannot_compare(run, gate, gate.baseline)):
            notes.append(f"{gate}: will fail: {why}")
            continue
        if gate.no_worse_than is None and gate.confidence is None:
            continue  # judged on the measured value
        if gate.of == "served" and gate.metric in SERVED_FIGURES:
            continue  # one figure of the whole model
        found = list(_of_gate(run, gate))
        powers += found
        if not found:
            notes.append(f"{gate}: power not known yet, because no report has rows of this metric that show it")
    return GateForecast(powers=tuple(powers), notes=tuple(notes))


def _cannot_compare(run: Candidate, gate: Gate, name: str) -> str | None:
    """Why a baseline has no report and can get none; None if it has or can."""
    found, stage = baseline(run, name), STAGE[gate.of]
    if found is None:
        return NO_BASELINE
    lost = found.lost(run, stage) if found.report(run, stage) is None else None
    return f"{lost}; {compute_again(name)}" if lost else None


def _of_gate(run: Candidate, gate: Gate) -> Iterator[Power]:
    """From the newest report that has the metric, beside another model's on the same rows if there is one."""
    with_rows = (
        (report, rows.of(gate.metric))
        for report in _reports(run, gate.of)
        if (rows := _rows_of(run, report)) is not None
    )
    found = ((report, rows) for report, rows in with_rows if gate.metric in rows.statistics)
    report, rows = next(found, (None, None))
    if report is None or rows is None:
        return
    metric = next(m for m in report.metrics if m.name == gate.metric)
    if gate.no_worse_than == "unquantized":
        before = run.ledger.records_of(run.project.name, report.made_by.revision).get("evaluation_report")
        unquantized = _rows_of(run, before if isinstance(before, Measured) else None)
        others = iter([unquantized.of(gate.metric) if unquantized is not None else None])
    else:
        others = (rows for _, rows in found)
    paired = next((r for r in others if r is not None and len(r.digests) == len(rows.digests) and r.like(rows)), None)
    planned = None if _has_own_rows(run, gate.metric) else _planned_rows(run)
    yield from expected(gate, metric, rows, paired, planned / len(rows.digests) if planned else 1.0)


def _has_own_rows(run: Candidate, metric: str) -> bool:
    """Whether a metric is measured on other rows than the test data."""
    parts = ((name_of(m), part_of(m)) for m in run.at.config.evaluation.metrics)
    return any(name == metric and part is not None and part.reads == "model" for name, part in parts)


def _rows_of(run: Candidate, report: Measured | None) -> EvaluatedRows | None:
    try:
        return rows_of(run.store, report)
    except StoreError:
        return None  # collected or damaged: another report will do


def _reports(run: Candidate, of: Of) -> Iterator[Measured]:
    """This revision's report, the champion's on its rows, and those of recent requests; each once."""
    stage, seen = STAGE[of], set()
    found: list[Record | None] = [run.resolved.records.get(stage)]
    with suppress(ConfigError, SourceError):
        if (champion := champion_now(run)) is not None:
            found.append(champion.report(run, stage))
    for request in run.ledger.requests(run.project.name)[-RECENT:][::-1]:
        found.append(run.ledger.records_of(run.project.name, request.revision).get(stage))
    for report in found:
        if isinstance(report, Measured) and report.digest not in seen:
            seen.add(report.digest)
            yield report


def _planned_rows(run: Candidate) -> int | None:
    """How many test rows will be evaluated; None before the data were read."""
    data, most = run.resolved.records.get("dataset_version"), run.at.config.evaluation.max_rows
    if not isinstance(data, DatasetVersion):
        return None
    return min(data.test.rows, most or data.test.rows)
