"""What a quantization backend does: refuse a model early, write one file for the engine, and read it back."""

from pathlib import Path
from typing import Any, Protocol


class QuantizationBackend(Protocol):
    """Made from the converter that the settings name; None: the installed one. Importing it loads no torch."""

    libraries: tuple[str, ...]
    """Distributions whose versions decide the result."""

    def __init__(self, converter: str | None = None) -> None: ...

    def refuses(self, config: dict[str, Any]) -> str | None:
        """Why a model with this config.json cannot be quantized, with the remedy; None if it can.

        Asked before training: a refusal after hours on a GPU would be a costly one.
        """

    def quantize(self, model: Path, artifact: Path, scheme: str) -> Path:
        """Quantizes a merged model folder into one file in `artifact`, verified by opening it; returns the file.

        Raises:
            BadInput: the model cannot be converted.
        """

    def load(self, file: Path) -> Any:
        """The quantized weights as a torch model in float32, for likelihoods.

        Raises:
            BadInput: they cannot be read so.
        """
