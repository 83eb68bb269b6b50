"""chrF (Popović 2015), by sacrebleu."""

from collections.abc import Sequence
from typing import Any

from llmops_assets.programs.evaluation.metrics.base import TextMetric


class Chrf(TextMetric):
    """sacrebleu's corpus chrF of character 1- to 6-grams, beta 2; works for every script."""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        import sacrebleu

        name = self.names[0]
        rows = [sacrebleu.sentence_chrf(p, [r]).score for p, r in zip(predictions, references, strict=True)]
        return {name: sacrebleu.corpus_chrf(list(predictions), [list(references)]).score, f"{name}/rows": rows}
