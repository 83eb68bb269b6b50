"""Rows that a model lost or won against the champion on the same test rows, worst first, with both answers."""

import heapq
import json
from collections.abc import Sequence
from pathlib import Path

from llmops_assets.catalog import METRICS
from llmops_assets.domain.records import Metric
from llmops_assets.domain.review import ChangedRow, Regressions
from llmops_assets.programs.evaluation.rows import FILE, EvaluatedRow, read_rows_file, shortened

SHOWN, LISTED = 5, 200
"""Rows lost and rows won: on the page, and in the file for programs."""
CHARACTERS = 2_000


def regressions(
    folder: Path, other: Path, metrics: Sequence[Metric], most: int = SHOWN, places: Sequence[str] = ()
) -> Regressions | None:
    """Compares the rows of two reports; None if one stored no rows, or no metric has values of single rows.

    Args:
        folder: the artifact of the report.
        other: the artifact of the other model's report.
        metrics: of the report, as far as they can be compared. Answers are rated by rougeL if it is measured, else by
            the first metric of answers, else by the likelihood of the references.
        most: rows lost that are returned at most, and rows won.
        places: where each test row came from, in order; empty: unknown.
    """
    if not (folder / FILE).is_file() or not (other / FILE).is_file():
        return None
    theirs = {row.digest: row for row in read_rows_file(other)}
    by = _rated_by(metrics, next(iter(theirs.values()), None))
    if by is None:
        return None
    sign = 1.0 if by.higher_is_better else -1.0
    changes: list[tuple[float, int, EvaluatedRow, EvaluatedRow]] = []
    equal = 0
    for row in read_rows_file(folder):
        before = theirs.get(row.digest)
        mine, was = row.scores.get(by.name), before.scores.get(by.name) if before is not None else None
        if before is None or mine is None or was is None:
            continue
        if mine == was:
            equal += 1
        else:
            changes.append((sign * (mine - was), row.row, row, before))
    lost = [change for change in changes if change[0] < 0]
    won = [change for change in changes if change[0] > 0]
    worst = heapq.nsmallest(most, lost, key=lambda c: c[:2])
    best = heapq.nsmallest(most, won, key=lambda c: (-c[0], c[1]))
    return Regressions(
        metric=by.name,
        higher_is_better=by.higher_is_better,
        lost=len(lost),
        won=len(won),
        equal=equal,
        worst=tuple(_shown(by.name, *c[2:], places) for c in worst),
        best=tuple(_shown(by.name, *c[2:], places) for c in best),
    )


def shortest(found: Regressions) -> Regressions:
    """As many rows as a page shows."""
    return found.model_copy(update={"worst": found.worst[:SHOWN], "best": found.best[:SHOWN]})


def write_regressions(file: Path, found: Regressions | None) -> None:
    """Writes a line for each listed row, those that lost first, worst first; `change` is lost or won."""
    with file.open("w", encoding="utf-8") as lines:
        for change, rows in (("lost", found.worst), ("won", found.best)) if found else ():
            for row in rows:
                line = {"change": change, "metric": found.metric} if found else {}
                lines.write(json.dumps(line | row.model_dump(), ensure_ascii=False) + "\n")


def _rated_by(metrics: Sequence[Metric], example: EvaluatedRow | None) -> Metric | None:
    rated = [m for m in metrics if example is not None and m.name in example.scores]

    def reads_references(metric: Metric) -> bool:
        return metric.part in METRICS and METRICS[metric.part].reads == "likelihoods"

    return min(rated, key=lambda m: (reads_references(m), m.part != "rougeL"), default=None)


def _shown(metric: str, row: EvaluatedRow, other: EvaluatedRow, places: Sequence[str]) -> ChangedRow:
    score, before = row.scores[metric], other.scores[metric]
    assert score is not None and before is not None
    return ChangedRow(
        row=row.row,
        place=places[row.row - 1] if row.row <= len(places) else "",
        digest=row.digest,
        input=shortened(row.input, CHARACTERS),
        reference=shortened(row.reference, CHARACTERS),
        prediction=shortened(row.prediction, CHARACTERS),
        other=shortened(other.prediction, CHARACTERS),
        score=score,
        other_score=before,
    )
