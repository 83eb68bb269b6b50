"""Rows that a model lost or won against another one on the same test rows, worst first, with both answers."""

import heapq
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from llmops_assets.catalog import METRICS
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import Metric
from llmops_assets.programs.evaluation.rows import FILE, EvaluatedRow, read_rows_file, shortened

SHOWN = 5
CHARACTERS = 2_000


class ChangedRow(Frozen):
    row: int
    input: str
    reference: str
    prediction: str
    other: str = Field(description="The other model's answer.")
    score: float
    other_score: float


class Regressions(Frozen):
    """The rows whose value of one metric differs between two models."""

    metric: str
    lost: int = Field(description="Rows that are worse than with the other model.")
    won: int
    equal: int
    worst: tuple[ChangedRow, ...] = Field(description="The rows that lost most, worst first.")
    best: tuple[ChangedRow, ...] = Field(description="The rows that won most, best first.")


def regressions(folder: Path, other: Path, metrics: Sequence[Metric]) -> Regressions | None:
    """Compares the rows of two reports; None if one stored no rows, or no metric rates the answers of single rows.

    Args:
        folder: the artifact of the report.
        other: the artifact of the other model's report.
        metrics: of the report; answers are rated by rougeL if it is measured, else by the first metric of answers.
    """
    if not (folder / FILE).is_file() or not (other / FILE).is_file():
        return None
    rated = [m for m in metrics if not (m.part in METRICS and METRICS[m.part].reads == "likelihoods")]
    by = min(rated, key=lambda m: m.part != "rougeL", default=None)
    if by is None:
        return None
    theirs = {row.digest: row for row in read_rows_file(other)}
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
    return Regressions(
        metric=by.name,
        lost=len(lost),
        won=len(won),
        equal=equal,
        worst=tuple(_shown(by.name, *c[2:]) for c in heapq.nsmallest(SHOWN, lost, key=lambda c: c[:2])),
        best=tuple(_shown(by.name, *c[2:]) for c in heapq.nlargest(SHOWN, won, key=lambda c: c[:2])),
    )


def _shown(metric: str, row: EvaluatedRow, other: EvaluatedRow) -> ChangedRow:
    score, before = row.scores[metric], other.scores[metric]
    assert score is not None and before is not None
    return ChangedRow(
        row=row.row,
        input=shortened(row.input, CHARACTERS),
        reference=shortened(row.reference, CHARACTERS),
        prediction=shortened(row.prediction, CHARACTERS),
        other=shortened(other.prediction, CHARACTERS),
        score=score,
        other_score=before,
    )
