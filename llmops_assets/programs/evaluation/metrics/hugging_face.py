"""Runs our metrics as Hugging Face `evaluate` metrics, which load no code and no data from the hub."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from llmops_assets.programs.evaluation.metrics.base import Answer, AnyMetric, NoEvidence, RowMetric


class EvaluateMetric(evaluate.Metric):
    """predictions, references → {name: value over all rows, name/stats and name/rows: those of each row}

    A `CorpusMetric` has no rows. Of a metric that is no evidence: {name/refused: why}.
    """

    metric: AnyMetric
    answers: Sequence[Answer]

    @classmethod
    def of(cls, metric: AnyMetric, answers: Sequence[Answer], cache: str) -> "EvaluateMetric":
        """A metric for these answers; `cache` is a folder that no other evaluation uses."""
        made = cls(cache_dir=cache, keep_in_memory=True)
        made.metric, made.answers = metric, answers
        return made

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        assert len(predictions) == len(references) == len(self.answers)
        try:
            return measured(self.metric, self.answers)
        except NoEvidence as why:
            return {f"{self.metric.name}/refused": str(why)}


def measured(metric: AnyMetric, answers: Sequence[Answer]) -> dict[str, Any]:
    """The value, the statistics and the value of each row, by name."""
    import numpy as np

    name = metric.name
    if not isinstance(metric, RowMetric):
        return {name: metric.whole(answers)}
    statistics = [[float(v) for v in row] for row in metric.statistics_of(answers)]
    with np.errstate(invalid="ignore"):
        whole = float(metric.value(np.asarray(statistics, dtype=float).sum(0)))
    rows = [metric.row_value(answer, row) for answer, row in zip(answers, statistics, strict=True)]
    return {name: whole, f"{name}/stats": statistics, f"{name}/rows": rows}
