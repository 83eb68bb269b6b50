"""Whether a folder holds a base model that can be trained and served. Getting one there belongs elsewhere."""

import json
from pathlib import Path

from llmops_assets.catalog import QUANTIZATION_BACKENDS
from llmops_assets.domain.weights import problem_of_weights
from llmops_assets.machine.files import files_below
from llmops_assets.programs.quantization.interface import QuantizationBackend


def problem_of(folder: Path, quantization: str = "gguf", converter: str | None = None) -> str | None:
    """Why this folder cannot be trained and served, with the remedy; None if it can.

    Args:
        quantization: the backend of the catalog that will convert it.
        converter: as the backend takes it.
    """
    if problem := problem_of_files(folder):
        return problem
    backend: QuantizationBackend = QUANTIZATION_BACKENDS[quantization].load()(converter)
    return backend.refuses(json.loads((folder / "config.json").read_text()))


def problem_of_files(folder: Path) -> str | None:
    """Why this folder is no base model that may be loaded, whatever is installed here; None if it is one."""
    if not (folder / "config.json").is_file():
        return "there is no config.json in it; it must be a folder as `save_pretrained` writes it"
    if problem := problem_of_weights(files_below(folder)):
        return problem
    try:
        json.loads((folder / "config.json").read_text())
    except ValueError as error:
        return f"its config.json is not valid JSON: {error}"
    return None
