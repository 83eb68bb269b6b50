"""Full fine-tuning: every weight of the base model."""

from pathlib import Path
from typing import Any

from llmops_assets.programs.models.loading import load_weights, read_config
from llmops_assets.programs.runtime.specs import TrainSpec


class Full:
    """A `TrainingMethod`; its checkpoint is a whole model."""

    half_precision = False

    def prepare(self, model: Any, spec: TrainSpec) -> Any:
        return model

    def round(self, model: Any, base: Path) -> None:
        trained = model.dtype
        model.to(_dtype(base)).to(trained)

    def save(self, model: Any, base: Path, artifact: Path) -> None:
        model.to(_dtype(base))
        model.save_pretrained(artifact)

    def load(self, base: Path, checkpoint: Path, dtype: Any) -> Any:
        return load_weights(checkpoint, "the checkpoint", dtype)


def _dtype(base: Path) -> Any:
    """The base model's own, in which the checkpoint is written."""
    import torch

    config = read_config(base)
    return getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or "bfloat16"))
