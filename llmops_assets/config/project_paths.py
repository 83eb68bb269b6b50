"""The type of a key that names a file or folder of the project."""

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from llmops_assets.domain.formatting import quoted


def _relative(value: object) -> object:
    if isinstance(value, str):
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or not value.strip():
            raise ValueError(f"{quoted(value)} must be a path within the project, such as data/train.jsonl")
        if len(value) > 1000 or any(len(part.encode()) > 255 for part in path.parts) or not value.isprintable():
            raise ValueError(f"{quoted(value)} is longer than a file's name may be, or has control characters")
        return str(path)
    return value


ProjectPath = Annotated[
    str, BeforeValidator(_relative), WithJsonSchema({"type": "string", "pattern": r"^(?!/)(?!(.*/)?\.\.(/|$)).*\S"})
]
