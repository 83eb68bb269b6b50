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

    def save(self, model: Any, base: Path, artifact: Path) -> None:
        import torch

        config = read_config(base)
        model.to(getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")))
        model.save_pretrained(artifact)

    def load(self, base: Path, checkpoint: Path, dtype: Any) -> Any:
        return load_weights(checkpoint, "the checkpoint", dtype)
