"""The JSON files of a model folder, as far as this project reads them: those of model, tokenizer and generation.

Other libraries read them too, and expect the same types; what is wrong is reported here, with its file and key.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from llmops_assets.config.documents import DocumentError, read_object
from llmops_assets.domain.formatting import excerpt


class _ModelConfig(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=(), strict=True)

    architectures: list[str] | None = None
    model_type: str | None = None
    eos_token_id: int | list[int] | None = None


class _TokenizerConfig(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    tokenizer_class: str | None = None
    chat_template: str | list[dict[str, Any]] | None = None


class _GenerationConfig(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    eos_token_id: int | list[int] | None = None


def read_model_config(folder: Path) -> dict[str, Any]:
    """`config.json`.

    Raises:
        DocumentError: it is missing, not a JSON object, or a key has the wrong type.
    """
    return _read(folder / "config.json", _ModelConfig)


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json`; empty if there is none.

    Raises:
        DocumentError: it is not a JSON object, or a key has the wrong type.
    """
    file = folder / "tokenizer_config.json"
    return _read(file, _TokenizerConfig) if file.exists() else {}


def read_generation_config(folder: Path) -> dict[str, Any]:
    """`generation_config.json`; empty if there is none.

    Raises:
        DocumentError: it is not a JSON object, or a key has the wrong type.
    """
    file = folder / "generation_config.json"
    return _read(file, _GenerationConfig) if file.exists() else {}


def _read(file: Path, model: type[BaseModel]) -> dict[str, Any]:
    found = read_object(file)
    try:
        model.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DocumentError(excerpt(f"{key}: {first['msg']}")) from error
    return found
