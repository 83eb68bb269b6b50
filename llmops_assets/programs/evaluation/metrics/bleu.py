"""BLEU (Papineni et al. 2002), by sacrebleu."""

from collections.abc import Sequence
from typing import Any

from llmops_assets.programs.evaluation.metrics.base import TextMetric


class Bleu(TextMetric):
    """sacrebleu's corpus BLEU (Post 2018); the value of a row is its smoothed sentence BLEU."""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        import sacrebleu

        rows = [sacrebleu.sentence_bleu(p, [r]).score for p, r in zip(predictions, references, strict=True)]
        return {"bleu": sacrebleu.corpus_bleu(list(predictions), [list(references)]).score, "bleu/rows": rows}
