"""Reads the header of a GGUF file in a millisecond and without NumPy.

The gguf library's reader takes seconds, since it decodes the whole vocabulary. This one stops at the first long list:
writers put architecture and context length before the tokenizer.
"""

import struct
from pathlib import Path
from typing import Any, BinaryIO

from llmops_assets.programs.runtime.errors import BadInput

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONG_LIST = 1024
_LONG_TEXT = 16 << 20


def read_header(file: Path) -> dict[str, Any]:
    """Key -> value, up to the tokenizer's vocabulary.

    Raises:
        BadInput: it cannot be read, or is not a GGUF file.
    """
    try:
        with file.open("rb") as opened:
            return _read(opened)
    except OSError as error:
        raise BadInput(f"the model cannot be read: {error.strerror}", str(file)) from error
    except (ValueError, KeyError, struct.error, UnicodeDecodeError) as error:
        raise BadInput("the model is not a GGUF file, or is cut off", str(file)) from error


def _read(file: BinaryIO) -> dict[str, Any]:
    if file.read(4) != b"GGUF":
        raise ValueError("no GGUF magic")
    _version, _tensors, count = (_scalar(file, t) for t in (4, 10, 10))
    header: dict[str, Any] = {}
    for _ in range(count):
        key = _string(file)
        kind = _scalar(file, 4)
        if kind == _ARRAY:
            of, length = _scalar(file, 4), _scalar(file, 10)
            if length > _LONG_LIST:
                break
            header[key] = [_value(file, of) for _ in range(length)]
        else:
            header[key] = _value(file, kind)
    return header


def _value(file: BinaryIO, kind: int) -> Any:
    return _string(file) if kind == _STRING else _scalar(file, kind)


def _scalar(file: BinaryIO, kind: int) -> Any:
    layout = "<" + _SCALARS[kind]
    return struct.unpack(layout, file.read(struct.calcsize(layout)))[0]


def _string(file: BinaryIO) -> str:
    length = _scalar(file, 10)
    if length > _LONG_TEXT:
        raise ValueError("a string is too long")
    return str(file.read(length).decode("utf-8"))
