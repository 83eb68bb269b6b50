"""Whether a folder holds a base model that can be trained and served. Getting one there belongs elsewhere."""

import json
from pathlib import Path

from llmops_assets.catalog import QUANTIZATION_BACKENDS
from llmops_assets.programs.quantization.interface import QuantizationBackend


def problem_of(folder: Path, quantization: str = "gguf", converter: str | None = None) -> str | None:
    """Why this folder cannot be trained and served, with the remedy; None if it can.

    Args:
        quantization: the backend of the catalog that will convert it.
        converter: as the backend takes it.
    """
    if not (folder / "config.json").is_file():
        return "there is no config.json in it; it must be a folder as `save_pretrained` writes it"
    if not list(folder.glob("*.safetensors")):
        pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern))
        if pickles:
            return (
                f"{pickles[0]} is a pickle, which can run code when it is loaded; convert it with "
                "`model.save_pretrained(folder, safe_serialization=True)` on a machine that trusts it"
            )
        return "there are no *.safetensors weights in it"
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        return f"its config.json is not valid JSON: {error}"
    backend: QuantizationBackend = QUANTIZATION_BACKENDS[quantization].load()(converter)
    return backend.refuses(config)
