"""Checks whether a folder is a base model that can be trained and served. It downloads nothing."""

from collections.abc import Collection
from pathlib import Path

from llmops_assets.catalog import QUANTIZATION_BACKENDS
from llmops_assets.config.documents import DocumentError
from llmops_assets.domain.weights import problem_of_weights
from llmops_assets.machine.files import files_below
from llmops_assets.programs.models.config_files import read_generation_config, read_model_config, read_tokenizer_config
from llmops_assets.programs.quantization.interface import QuantizationBackend


def problem_of(
    folder: Path, quantization: str = "gguf", converter: str | None = None, without: Collection[str] = ()
) -> str | None:
    """Why this folder cannot be trained and served, with the remedy; None if it can.

    Args:
        quantization: the backend of the catalog that will convert it.
        converter: argument of the backend.
        without: files of the folder to ignore.
    """
    if problem := problem_of_files(folder, without):
        return problem
    backend: QuantizationBackend = QUANTIZATION_BACKENDS[quantization].load()(converter)
    return backend.refuses(read_model_config(folder))


def problem_of_files(folder: Path, without: Collection[str] = ()) -> str | None:
    """Why this folder is not a base model that may be loaded, judged by its files only; None if it is."""
    if not (folder / "config.json").is_file():
        return "there is no config.json in it; name a folder that `save_pretrained` has written"
    if problem := problem_of_weights(f for f in files_below(folder) if f not in without):
        return problem
    for name, read in (
        ("config.json", read_model_config),
        ("tokenizer_config.json", read_tokenizer_config),
        ("generation_config.json", read_generation_config),
    ):
        try:
            read(folder)
        except DocumentError as error:
            return f"its {name}: {error}"
    return None
