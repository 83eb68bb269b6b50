"""Toxicity, by a sequence classifier of the project: `{metric: toxicity, model: FOLDER, label: NAME}`."""

from collections.abc import Sequence
from pathlib import Path

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric
from llmops_assets.programs.models.classifier import Classifier


class Toxicity(RowMetric):
    """The mean probability of one label of a classifier over the answers; it is as good as that classifier."""

    def check(self, rows: Sequence[Answer]) -> None:
        self._classifier()

    def _classifier(self) -> Classifier:
        return Classifier(Path(self.options["model"]), self.options["label"])

    def statistics_of(self, answers: Sequence[Answer]) -> list[Sequence[float]]:
        return [(p, 1.0) for p in self._classifier().probabilities([a.prediction for a in answers])]
