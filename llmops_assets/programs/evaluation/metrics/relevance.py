"""Relevance of an answer to its question, by a sentence model."""

from llmops_assets.programs.data.rows import question
from llmops_assets.programs.evaluation.metrics.base import Answer
from llmops_assets.programs.evaluation.metrics.similarity import Similarity


class Relevance(Similarity):
    """Cosine of the sentence embeddings of answer and question, the last user turn; mean over the rows.

    It sees whether the answer is about the question's topic, not whether it is right; repeating the question scores 1.
    """

    def other(self, answer: Answer) -> str:
        return question(dict(answer.row))
