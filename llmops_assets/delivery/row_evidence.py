"""Reads the rows of stored reports for verdicts. Judging belongs in `llmops_assets.domain.gate`."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from llmops_assets.catalog import METRICS, UnavailablePart, UnknownPart
from llmops_assets.domain.bootstrap import Statistic
from llmops_assets.domain.evaluated_rows import EvaluatedRows
from llmops_assets.domain.must_pass import AnsweredRow
from llmops_assets.domain.records import Measured, Metric
from llmops_assets.programs.evaluation.metrics.base import RowMetric
from llmops_assets.programs.evaluation.rows import FILE, MUST_PASS, TASK_FILE, read_rows_file
from resources.artifact_store.store import ArtifactStore


def rows_of(store: ArtifactStore, report: Measured | None) -> EvaluatedRows | None:
    """The rows of a report; None if it has none, as reports of earlier versions.

    Raises:
        StoreError: the artifact is lost or damaged.
    """
    if report is None:
        return None
    folder = store.fetch(report.uri)
    return _read(folder, report.digest, report.metrics) if (folder / FILE).is_file() else None


def must_pass_of(store: ArtifactStore, report: Measured | None) -> tuple[AnsweredRow, ...] | None:
    """A report's answers to the must-pass rows; None if it has none.

    Raises:
        StoreError: the artifact is lost or damaged.
    """
    if report is None:
        return None
    folder = store.fetch(report.uri)
    if not (folder / MUST_PASS).is_file():
        return None
    fields = set(AnsweredRow.model_fields)
    return tuple(AnsweredRow(**row.model_dump(include=fields)) for row in read_rows_file(folder, MUST_PASS))


@lru_cache(maxsize=8)  # of immutable artifacts: each verdict of a run reads the same two to four
def _read(folder: Path, digest: str, metrics: tuple[Metric, ...]) -> EvaluatedRows:
    return rows_in(folder, metrics)


def rows_in(folder: Path, metrics: tuple[Metric, ...]) -> EvaluatedRows:
    """The rows of the report in a folder, with the statistics of these metrics."""
    own = {m.name: TASK_FILE.format(m.name) for m in metrics if (folder / TASK_FILE.format(m.name)).is_file()}
    shared = _of_file(folder, FILE, tuple(m for m in metrics if m.name not in own))
    each = {m.name: _of_file(folder, own[m.name], (m,)) for m in metrics if m.name in own}
    return replace(shared, own=each)


def _of_file(folder: Path, name: str, metrics: tuple[Metric, ...]) -> EvaluatedRows:
    import numpy as np

    digests, columns = [], []
    found: dict[str, list[tuple[float, ...]]] = {m.name: [] for m in metrics}
    for row in read_rows_file(folder, name):
        digests.append(row.digest)
        columns.append(row.columns)
        for name, statistics in row.stats.items():
            if name in found:
                found[name].append(statistics)
    complete = {name: rows for name, rows in found.items() if len(rows) == len(digests) and rows}
    values = dict(_values(metrics))
    return EvaluatedRows(
        digests=tuple(digests),
        statistics={name: np.array(rows, dtype=float) for name, rows in complete.items() if name in values},
        values=values,
        columns=tuple(columns),
    )


def _values(metrics: tuple[Metric, ...]) -> Iterator[tuple[str, Statistic]]:
    """Metric → its value as a function of sums: of the catalog's class, or the mean of a project's own function."""
    for metric in metrics:
        try:
            kind = METRICS[metric.part].load() if metric.part else RowMetric
        except (UnknownPart, UnavailablePart):
            continue  # a package that was removed since: no interval
        if issubclass(kind, RowMetric):
            yield metric.name, kind.value
