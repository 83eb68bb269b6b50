"""ROUGE-1, -2 and -L (Lin 2004), by rouge_score."""

from collections.abc import Sequence
from typing import Any

from llmops_assets.programs.evaluation.metrics.base import TextMetric, mean_of_rows


class Rouge(TextMetric):
    """F-measures of ROUGE-1, -2 and -L (Lin 2004), the mean over the rows."""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(list(self.names))
        rows = [scorer.score(r, p) for p, r in zip(predictions, references, strict=True)]
        return mean_of_rows({name: [row[name].fmeasure for row in rows] for name in self.names})
