"""Reads the header of a GGUF file in a millisecond and without NumPy, and adds keys to it.

The gguf library's reader takes seconds, since it decodes the whole vocabulary. This one stops at the first long list:
writers put architecture and context length before the tokenizer.
"""

import shutil
import struct
from pathlib import Path
from typing import Any, BinaryIO

from llmops_assets.programs.runtime.errors import BadInput

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONG_LIST = 1024
_LONG_TEXT = 16 << 20
_ALIGNMENT = 32  # of the weights, where the file says nothing
PADDING = "llmops.padding"


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


def with_keys(file: Path, target: Path, keys: dict[str, int | bool | str]) -> None:
    """Writes a copy with further keys, which the file does not have yet: a key that occurs twice makes it unreadable.

    They are inserted before all others, and padded to the alignment of the weights, so that nothing else moves within
    its section: neither vocabulary nor weights are decoded.

    Args:
        file: the GGUF file.
        target: where the copy is written; another path.
        keys: a whole number is written as unsigned 32 bits.

    Raises:
        BadInput: `file` cannot be read, or is not a GGUF file.
    """
    alignment = int(read_header(file).get("general.alignment") or _ALIGNMENT)
    entries = [_entry(key, value) for key, value in keys.items()]
    lacking = -(sum(map(len, entries)) + len(_entry(PADDING, ""))) % alignment
    entries.append(_entry(PADDING, " " * lacking))
    with file.open("rb") as source, target.open("wb") as copy:
        start = source.read(16)
        copy.write(start + struct.pack("<Q", _scalar(source, 10) + len(entries)) + b"".join(entries))
        shutil.copyfileobj(source, copy, 16 << 20)


def _entry(key: str, value: int | bool | str) -> bytes:
    def text(of: str) -> bytes:
        return struct.pack("<Q", len(of.encode())) + of.encode()

    if isinstance(value, bool):
        return text(key) + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    return text(key) + struct.pack("<I", _STRING) + text(value)
