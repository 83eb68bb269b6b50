"""The interface of a quantization backend: refuse a model early, write one file for the engine."""

from pathlib import Path
from typing import Any, Protocol


class QuantizationBackend(Protocol):
    """Created with the converter of the settings; None: the installed one. Importing it loads no torch."""

    libraries: tuple[str, ...]
    """Distributions whose versions affect the result."""

    def __init__(self, converter: str | None = None) -> None: ...

    def refuses(self, config: dict[str, Any]) -> str | None:
        """Why a model with this config.json cannot be quantized, with the remedy; None if it can.

        Called before training: a refusal after hours on a GPU would be costly.
        """

    def quantize(self, model: Path, artifact: Path, scheme: str) -> Path:
        """Quantizes a merged model folder into one file in `artifact`, verifies that it opens, and returns it.

        Raises:
            BadInput: the model cannot be converted.
        """
