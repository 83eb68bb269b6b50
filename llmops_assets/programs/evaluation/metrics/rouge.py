"""ROUGE-1, -2 and -L (Lin 2004), by rouge_score."""

import functools
import unicodedata
from collections.abc import Sequence

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric
from llmops_assets.programs.runtime.errors import BadInput

BLIND = 0.05
"""Share of rows in another script above which ROUGE is refused: each of them scores 0, whatever the answer."""


class Rouge(RowMetric):
    """F-measures of ROUGE-1, -2 and -L (Lin 2004), the mean over the rows.

    Like its authors' implementation it splits at every character that is not an ASCII letter or digit, so it sees
    nothing of a text in another script: a perfect answer in Greek or Chinese scores 0.
    """

    def check(self, rows: Sequence[Answer]) -> None:
        blind = [number for number, row in enumerate(rows, start=1) if not mostly_latin(row.reference)]
        if blind and len(blind) > BLIND * len(rows):
            raise BadInput(
                f"{self.name} reads ASCII letters and digits only, and {len(blind)} of {len(rows)} "
                "references are mostly in another script; remove it from evaluation.metrics, and measure chrf or "
                "similarity instead",
                f"test.jsonl, row {blind[0]}",
            )

    def statistics_of(self, answers: Sequence[Answer]) -> list[Sequence[float]]:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([self.name])
        return [(scorer.score(a.reference, a.prediction)[self.name].fmeasure, 1.0) for a in answers]


def mostly_latin(text: str) -> bool:
    """Whether at least half of a text's letters are Latin; a text without letters (a number) counts as Latin."""
    letters = [c for c in text if c.isalpha()]
    return sum(map(_is_latin, letters)) * 2 >= len(letters)


@functools.cache
def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("LATIN")
