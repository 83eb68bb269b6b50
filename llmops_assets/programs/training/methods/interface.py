"""The interface of a training method: which weights are trained, what is saved, and how it is loaded."""

from pathlib import Path
from typing import Any, Protocol

from llmops_assets.programs.runtime.specs import TrainSpec


class TrainingMethod(Protocol):
    """Models are `transformers.PreTrainedModel`; no torch is imported before a method is called."""

    half_precision: bool
    """Whether the base model may be held in bfloat16 on a GPU: only if its own weights are frozen."""

    def prepare(self, model: Any, spec: TrainSpec) -> Any:
        """The model for training, with all other weights frozen.

        Raises:
            BadInput: the method's options do not fit the model.
        """

    def round(self, model: Any, base: Path) -> None:
        """Rounds the trained weights in place to the precision in which `save` writes them.

        What is validated afterwards is what is saved: bfloat16 keeps 8 bits of a weight.
        """

    def save(self, model: Any, base: Path, artifact: Path) -> None:
        """Writes the checkpoint, without paths or dates of this machine: equal trainings give equal bytes."""

    def load(self, base: Path, checkpoint: Path, dtype: Any) -> Any:
        """The trained model in one piece, adapters merged.

        Raises:
            BadInput: a folder is missing, unsafe or broken.
        """
