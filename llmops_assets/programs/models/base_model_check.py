"""Whether a folder holds a base model that can be trained and served. Getting one there belongs elsewhere."""

import json
from pathlib import Path

from llmops_assets.domain.weights import problem_of_weights
from llmops_assets.machine.files import files_below
from llmops_assets.programs.quantization.gguf_architectures import convertible


def problem_of(folder: Path, converter: str | None = None) -> str | None:
    """Why this folder cannot be trained and served, with the remedy; None if it can."""
    return problem_of_files(folder) or convertible(json.loads((folder / "config.json").read_text()), converter)


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
