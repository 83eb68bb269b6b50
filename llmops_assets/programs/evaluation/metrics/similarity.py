"""Semantic similarity of answer and reference, by a sentence model."""

from collections.abc import Sequence

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric
from llmops_assets.programs.models.sentences import sentence_model


class Similarity(RowMetric):
    """Cosine of the sentence embeddings of answer and reference (Reimers and Gurevych 2019), mean over the rows.

    It sees topic and wording, and little of negation, numbers and antonyms: "adds" and "removes" are close.
    """

    def check(self, rows: Sequence[Answer]) -> None:
        sentence_model(self.options.get("model"))

    def statistics_of(self, answers: Sequence[Answer]) -> list[Sequence[float]]:
        model = sentence_model(self.options.get("model"))
        a = model.embed([answer.prediction for answer in answers])
        b = model.embed([self.other(answer) for answer in answers])
        return [(float(value), 1.0) for value in (a * b).sum(-1)]

    def other(self, answer: Answer) -> str:
        """What the answer is compared with."""
        return answer.reference
