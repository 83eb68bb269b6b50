"""Toxicity, by a sequence classifier of the project: `{metric: toxicity, model: FOLDER, label: NAME}`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmops_assets.programs.evaluation.metrics.base import TextMetric, mean_of_rows
from llmops_assets.programs.models.classifier import Classifier


class Toxicity(TextMetric):
    """The mean probability of one label of a classifier over the answers; it is as good as that classifier."""

    def check(self, references: Sequence[str] = ()) -> None:
        self._classifier()

    def _classifier(self) -> Classifier:
        return Classifier(Path(self.options["model"]), self.options["label"])

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        return mean_of_rows({self.names[0]: self._classifier().probabilities(predictions)})
