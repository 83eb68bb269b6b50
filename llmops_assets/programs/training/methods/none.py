"""No training: the base model is the checkpoint."""

from pathlib import Path
from typing import Any

from llmops_assets.programs.models.loading import load_weights
from llmops_assets.programs.runtime.specs import TrainSpec


class Untrained:
    """A `TrainingMethod`; its checkpoint is only the configuration, next to the tokenizer."""

    half_precision = False

    def prepare(self, model: Any, spec: TrainSpec) -> Any:
        return model

    def round(self, model: Any, base: Path) -> None:
        """No weight is saved."""

    def save(self, model: Any, base: Path, artifact: Path) -> None:
        (artifact / "config.json").write_bytes((base / "config.json").read_bytes())

    def load(self, base: Path, checkpoint: Path, dtype: Any) -> Any:
        return load_weights(base, "the base model", dtype)
