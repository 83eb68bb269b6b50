"""python -m llmops_assets.programs.judge_pairs --spec SPEC.json --output DIR

Has an LLM compare the answers of two stored reports to the same rows: a candidate's with the champion's. No model is
loaded and nothing is answered again. The judge's prompt is `domain.judging`, its endpoint `programs.judging`.
"""

import json
from collections import defaultdict
from pathlib import Path

from llmops_assets.catalog import METRICS
from llmops_assets.programs.data.rows import reference
from llmops_assets.programs.evaluate import load_test
from llmops_assets.programs.evaluation.metrics.base import Answer, NoEvidence
from llmops_assets.programs.evaluation.rows import read_rows_file, row_digest
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import JudgePairsResult, JudgePairsSpec


def judge_pairs(spec: JudgePairsSpec, job: ProgramRun) -> JudgePairsResult:
    """The whole program.

    Raises:
        BadInput: the judge cannot be asked, or the reports are of other rows.
    """
    metric = METRICS[spec.metric.part].load()(spec.metric.name, spec.metric.options)
    metric.check(())
    mine, theirs = answers_of(Path(spec.candidate)), answers_of(Path(spec.champion))
    pairs = []
    for number, row in enumerate(load_test(Path(spec.data), spec.max_rows), start=1):
        digest = row_digest(Answer(prediction="", reference=reference(row), row=row))
        try:
            pairs.append(Answer(prediction=mine[digest].pop(0), reference=theirs[digest].pop(0), row=row))
        except IndexError as error:
            raise BadInput("one of the reports has no answer to it", f"test.jsonl, row {number}") from error
    differ = [pair for pair in pairs if pair.prediction.strip() != pair.reference.strip()]
    job.progress("judge", f"{len(differ)} of {len(pairs)} answers differ from the champion's")
    refused, points = "", []
    try:
        points = [row[0] for row in metric.statistics_of(differ) if row[1]] if differ else []
    except NoEvidence as error:
        refused = str(error)
    return JudgePairsResult(
        won=points.count(1.0),
        tied=points.count(0.5) + len(pairs) - len(differ),
        lost=points.count(0.0),
        unreadable=len(differ) - len(points),
        refused=refused,
        facts="; ".join(metric.facts().values()),
    )


def answers_of(folder: Path) -> dict[str, list[str]]:
    """Digest of each row → its answers in a report, whole."""
    found: dict[str, list[str]] = defaultdict(list)
    with (folder / "predictions.jsonl").open(encoding="utf-8") as file:
        for row, line in zip(read_rows_file(folder), file, strict=True):
            found[row.digest].append(json.loads(line)["prediction"])
    return found


if __name__ == "__main__":
    run("judge_pairs", JudgePairsSpec, judge_pairs)
