"""Support of an answer by the row's `context`, by a sentence model."""

import re
from collections.abc import Sequence

from llmops_assets.programs.evaluation.metrics.base import Answer, NoEvidence, RowMetric
from llmops_assets.programs.models.sentences import sentence_model
from llmops_assets.programs.runtime.errors import BadInput

SUPPORTED = 0.5
"""Similarity from which a sentence counts as supported, unless `threshold` says otherwise."""
_END = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])|\n+")


class Groundedness(RowMetric):
    """How close each sentence of an answer is to its closest sentence of the context; the mean over all sentences.

    Sentences are compared by the cosine of their embeddings. That finds what the context does not speak of. It does not
    find a wrong number or name, a negation, or a false conclusion from true sentences, and it takes a paraphrase in
    unusual words for unsupported. Rows without context are not counted.

    Statistics: similarities and sentences of the answer.
    """

    _counted = 0

    def check(self, rows: Sequence[Answer]) -> None:
        for number, row in enumerate(rows, start=1):
            given = row.row.get("context")
            texts = given if isinstance(given, list | tuple) else [given]
            if wrong := [text for text in texts if not isinstance(text, str | None)]:
                kind = type(wrong[0]).__name__
                told = f"its context has a {kind}; write text, or a list of texts, or leave it out"
                raise BadInput(f"{self.name}: {told}", f"test.jsonl, row {number}")
        if rows and not any(context_of(row) for row in rows):
            told = "no row has a context; add a column `context` of text, or a list of texts, or remove the metric"
            raise BadInput(f"{self.name}: {told}", "test.jsonl")
        sentence_model(self.options.get("model"))

    def statistics_of(self, answers: Sequence[Answer]) -> list[Sequence[float]]:
        model = sentence_model(self.options.get("model"))
        found: list[Sequence[float]] = []
        for answer in answers:
            said, given = sentences(answer.prediction), context_of(answer)
            if not said or not given:
                found.append((0.0, 0.0))
                continue
            closest = (model.embed(said) @ model.embed(given).T).max(-1)
            found.append((sum(self.count(float(value)) for value in closest), float(len(said))))
        self._counted = sum(sentences > 0 for _, sentences in found)
        if not self._counted:
            raise NoEvidence("no row has an answer and a context, so nothing was compared")
        return found

    def facts(self) -> dict[str, str]:
        return {f"Rows with an answer and a context ({self.name})": str(self._counted)}

    def count(self, closest: float) -> float:
        """What a sentence of an answer adds, by its similarity to its closest sentence of the context."""
        return closest


class UnsupportedRate(Groundedness):
    """The share of sentences of all answers that no sentence of the context is close to; see `Groundedness`."""

    def count(self, closest: float) -> float:
        return float(closest < (self.options.get("threshold") or SUPPORTED))


def context_of(answer: Answer) -> list[str]:
    """The sentences of the row's context; empty if it has none."""
    given = answer.row.get("context")
    texts = given if isinstance(given, list | tuple) else [given]
    return [sentence for text in texts if isinstance(text, str) for sentence in sentences(text)]


def sentences(text: str) -> list[str]:
    """Parts of a text that end with . ! ? and a space, with 。！？, or with a line."""
    return [part.strip() for part in _END.split(text) if part.strip()]
