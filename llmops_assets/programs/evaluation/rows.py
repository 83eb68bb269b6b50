"""rows.jsonl of an evaluation: each row's answer, its values, and the sufficient statistics of each metric.

A metric's value over any set of rows is a function of the sums of their statistics (`metrics.base`), so intervals,
slices and paired comparisons read this file only. One line for each row, in the order of the test data:

    {"row": 3, "digest": ..., "input": ..., "reference": ..., "prediction": ..., "cut": false,
     "scores": {metric: value or null}, "stats": {metric: [numbers]}, "columns": {other columns of the row}}

`row` counts from 1. `digest` identifies the row's content, so rows of two reports are paired whatever their order. Long
texts are shortened so that the file stays below `FILE_BYTES` or so; predictions.jsonl has them whole.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmops_assets.domain.evaluated_rows import OWN_COLUMNS, slice_columns
from llmops_assets.domain.models import Frozen
from llmops_assets.programs.data.rows import canonical, question
from llmops_assets.programs.evaluation.metrics.base import Answer, digest_of
from llmops_assets.programs.evaluation.scoring import Scored

FILE = "rows.jsonl"
MUST_PASS = "must_pass.jsonl"
"""The same of the rows that each must pass; there only if the project has such rows."""
TASK_FILE = "rows-{}.jsonl"
"""Of a metric that has rows of its own; named by the metric."""
FILE_BYTES = 64 * 2**20
"""The texts of all rows together, in characters: at 10^4 rows 2,236 for each of the three texts of a row."""
LONGEST, SHORTEST = 20_000, 200


class EvaluatedRow(Frozen):
    """One line of rows.jsonl."""

    row: int
    digest: str
    input: str
    reference: str
    prediction: str
    cut: bool = False
    scores: dict[str, float | None]
    stats: dict[str, tuple[float, ...]]
    columns: dict[str, Any]


def write_rows_file(folder: Path, answers: Sequence[Answer], scored: Scored, name: str = FILE) -> None:
    """Writes rows.jsonl, or the file of this name, line by line."""
    limit = max(SHORTEST, min(LONGEST, FILE_BYTES // (3 * max(len(answers), 1))))
    with (folder / name).open("w", encoding="utf-8", newline="\n") as file:
        for number, (answer, scores, stats) in enumerate(
            zip(answers, scored.rows, scored.statistics, strict=True), start=1
        ):
            line = {
                "row": number,
                "digest": row_digest(answer),
                "input": shortened(question(dict(answer.row)) if answer.row else "", limit),
                "reference": shortened(answer.reference, limit),
                "prediction": shortened(answer.prediction, limit),
                "cut": answer.cut,
                "scores": scores,
                "stats": stats,
                "columns": columns_of(answer),
            }
            file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    for name, rows in scored.tasks.items():
        with (folder / TASK_FILE.format(name)).open("w", encoding="utf-8", newline="\n") as file:
            for number, row in enumerate(rows, start=1):
                texts = (shortened(text, limit) for text in (row.input, row.reference, row.prediction))
                line = {
                    "row": number,
                    "digest": row.digest,
                    **dict(zip(("input", "reference", "prediction"), texts, strict=True)),
                    "scores": {name: row.value},
                    "stats": {name: row.statistics},
                    "columns": row.columns,
                }
                file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")


def read_rows_file(folder: Path, name: str = FILE) -> Iterator[EvaluatedRow]:
    """The rows, one after the other."""
    with (folder / name).open(encoding="utf-8") as file:
        for line in file:
            yield EvaluatedRow.model_validate_json(line)


def row_digest(answer: Answer) -> str:
    return digest_of(canonical(dict(answer.row)))


def columns_of(answer: Answer) -> dict[str, Any]:
    """The row's other columns, as far as they can name a slice: short texts, numbers, truth values and null."""
    return slice_columns({name: value for name, value in answer.row.items() if name not in OWN_COLUMNS})


def shortened(text: str, limit: int) -> str:
    """The text, cut in the middle at the limit."""
    if len(text) <= limit:
        return text
    tail = limit // 4
    return f"{text[: limit - tail]}\n… ({len(text):,} characters) …\n{text[-tail:]}"
