"""report_bytes: the page of a verdict, with its JSON, at 10,000 test rows over the same at 100.

Two models' rows with texts of up to 4 KB, a slice with as many values as rows, one with four, and two dataset versions
of which every second row differs: all that a page shows grows with the rows, and the page must not.
"""

import random
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured
from benchmarks.place import Place
from llmops_assets.delivery.row_evidence import rows_in
from llmops_assets.domain.records import Metric, Sample, Split
from llmops_assets.domain.review import Champion, CommitLine, Review
from llmops_assets.domain.row_comparison import slices
from llmops_assets.programs.data.diff import Version, data_diff
from llmops_assets.programs.data.rows import digest_of, write_places, write_rows
from llmops_assets.programs.evaluation.metrics.base import Answer
from llmops_assets.programs.evaluation.regressions import regressions
from llmops_assets.programs.evaluation.report import MEASUREMENT, Measurement, render, write_report
from llmops_assets.programs.evaluation.rows import write_rows_file
from llmops_assets.programs.evaluation.scoring import Scored

FEW, MANY = 100, 10_000
TEXT = 4_000
METRIC = Metric(name="rougeL", part="rougeL", value=0.5, low=0.4, high=0.6, higher_is_better=True)


def measure(place: Place) -> Measured:
    sizes = [_bytes(place.folder(f"report-{rows}"), rows) for rows in (MANY, FEW)]
    return Measured(*map(float, sizes))


def _bytes(folder: Path, count: int) -> int:
    """The bytes of page and JSON together."""
    chance = random.Random(7)
    rows = [_row(chance, number) for number in range(count)]
    mine, theirs = (_report(folder / name, rows, chance) for name in ("mine", "theirs"))
    changed = [{**row, "output": "another"} if number % 2 else row for number, row in enumerate(rows)]
    found = regressions(mine, theirs, [METRIC])
    evaluated, others = (rows_in(report, (METRIC,)) for report in (mine, theirs))
    if found is None or found.lost < count / 10 or not evaluated.statistics:
        raise Unmeasured("the reports have nothing to compare, so the page would be empty")
    review = Review(
        project="zoo",
        stage="evaluation_report",
        commit=CommitLine(revision="c" * 40, subject="A commit", author="Ada <ada@example.com>"),
        subject="it",
        outcome="passed",
        champion=Champion(release="a" * 64, revision="b" * 40, subject="The champion's"),
        rows=count,
        figures=(),
        slices=tuple(slices(column, evaluated, others, (METRIC,)) for column in ("kind", "id")),
        regressions=found,
        data=data_diff(_version(folder / "old", rows), _version(folder / "new", changed)),
    )
    measurement = Measurement.model_validate_json((mine / MEASUREMENT).read_text(encoding="utf-8"))
    return len(render(measurement, review).encode()) + len(review.model_dump_json(indent=1).encode())


def _row(chance: random.Random, number: int) -> dict[str, Any]:
    words = "".join(chance.choices("abcdefgh <&", k=chance.randrange(TEXT // 2, TEXT)))
    return {"input": f"{number} {words}", "output": words[::-1], "kind": f"k{number % 4}", "id": f"id-{number}"}


def _report(folder: Path, rows: list[dict[str, Any]], chance: random.Random) -> Path:
    folder.mkdir()
    answers = [
        Answer(prediction=row["output"][chance.randrange(9) :], reference=row["output"], row=row) for row in rows
    ]
    scores = [chance.random() for _ in rows]
    scored = Scored((METRIC,), [{"rougeL": s} for s in scores], [{"rougeL": [s, 1.0]} for s in scores])
    write_rows_file(folder, answers, scored)
    samples = [
        Sample(input=a.row["input"], reference=a.reference, prediction=a.prediction, scores={"rougeL": s})
        for a, s in zip(answers, scores, strict=True)
    ]
    write_report(folder, "zoo", "A model", (METRIC,), samples, {})
    return folder


def _version(folder: Path, rows: list[dict[str, Any]]) -> Version:
    folder.mkdir()
    write_rows(folder / "train.jsonl", rows)
    write_places(folder, {"train": [f"data/train.jsonl, line {n}" for n in range(1, len(rows) + 1)]})
    empty = Split(rows=0, digest=digest_of([]))
    return Version((Split(rows=len(rows), digest=digest_of(rows)), empty, empty), folder)


BENCHMARK = Benchmark(
    name="report_bytes",
    unit="bytes",
    against="the same with 100 rows",
    goals=(Goal("value", "at most", 500_000), Goal("ratio", "at most", 1.5)),
    measure=measure,
)
