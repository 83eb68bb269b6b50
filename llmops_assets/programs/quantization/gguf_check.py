"""Verifies that a GGUF file is whole, from its header and its length, in a tenth of a second; reads single numbers.

The gguf library's reader takes 3 to 8 CPU seconds for a vocabulary of 49,152 tokens, since it decodes each of them. The
header's values belong in `programs.quantization.gguf_header`.
"""

import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from llmops_assets.programs.runtime.errors import BadInput

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Type of a value -> its bytes."""
_UINT32, _STRING, _ARRAY = 4, 8, 9
_ALIGNMENT = 32  # of the weights, where the file says nothing
EMBEDDINGS, TOKENS = "token_embd.weight", "tokenizer.ggml.tokens"


def problem_of(file: Path) -> str | None:
    """Why an engine could not serve a file: what it lacks, or that it is cut off; None if it is whole."""
    if not file.stat().st_size:
        return "it is empty"
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:4] != b"GGUF":
            return "it is not a GGUF file"
        try:
            counted, tensors, end = _contents(content)
        except (struct.error, KeyError, UnicodeDecodeError):
            return "it is cut off within its header"
        if EMBEDDINGS not in tensors or not counted:
            return "it lacks its embeddings or its tokenizer"
        if len(content) < end:
            return f"it is cut off: it has {len(content):,} bytes, its weights need {end:,}"
    return None


def numbers_in(file: Path, keys: tuple[str, ...]) -> dict[str, int]:
    """Those of the keys that a file has, with their values: whole numbers of 32 bits, also after the vocabulary.

    Raises:
        BadInput: it is not a GGUF file, or is cut off within its header.
    """
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            found = {key: at for key, kind, at in _values(content) if key in keys and kind == _UINT32}
            return {key: struct.unpack_from("<I", content, at)[0] for key, at in found.items()}
        except (struct.error, KeyError, UnicodeDecodeError) as error:
            raise BadInput("the model is not a GGUF file, or is cut off", str(file)) from error


def _values(content: mmap.mmap) -> Iterator[tuple[str, int, int]]:
    """Key, type and place of each value; then an empty key with the place where the tensors' list begins."""
    (values,) = struct.unpack_from("<Q", content, 16)
    at = 24
    for _ in range(values):
        key, at = _string(content, at)
        (kind,) = struct.unpack_from("<I", content, at)
        yield key, kind, at + 4
        at = _after(content, at + 4, kind)
    yield "", 0, at


def _contents(content: mmap.mmap) -> tuple[int, set[str], int]:
    """The number of tokens, the tensors' names, and where the last tensor ends, in bytes."""
    from gguf.constants import GGML_QUANT_SIZES

    sizes: dict[int, tuple[int, int]] = {int(kind): of for kind, of in GGML_QUANT_SIZES.items()}
    (tensors,) = struct.unpack_from("<Q", content, 8)
    at, tokens, alignment = 0, 0, _ALIGNMENT
    for key, kind, at in _values(content):
        if key == "general.alignment" and kind == _UINT32:
            (alignment,) = struct.unpack_from("<I", content, at)
        if key == TOKENS and kind == _ARRAY:
            (tokens,) = struct.unpack_from("<Q", content, at + 4)
    found: dict[str, tuple[int, int]] = {}
    for _ in range(tensors):
        name, at = _string(content, at)
        (dimensions,) = struct.unpack_from("<I", content, at)
        *shape, kind, offset = struct.unpack_from(f"<{dimensions}QIQ", content, at + 4)
        at += 4 + 8 * dimensions + 12
        block, size = sizes.get(kind, (1, 0))  # of a type that only a newer converter knows, the offset counts
        found[name] = (offset, math.prod(shape) // block * size)
    start = at + -at % alignment
    return tokens, set(found), start + max((offset + size for offset, size in found.values()), default=0)


def _string(content: mmap.mmap, at: int) -> tuple[str, int]:
    end = _after(content, at, _STRING)
    return content[at + 8 : end].decode("utf-8"), end


def _after(content: mmap.mmap, at: int, kind: int) -> int:
    """Where the value of this type that begins at `at` ends.

    Raises:
        struct.error: beyond the file's end.
        KeyError: there is no such type.
    """
    if kind == _STRING:
        (length,) = struct.unpack_from("<Q", content, at)
        return int(at + 8 + length)
    if kind != _ARRAY:
        return at + _SIZES[kind]
    of, count = struct.unpack_from("<IQ", content, at)
    at += 12
    if of != _STRING:
        return int(at + count * _SIZES[of])
    for _ in range(count):
        at = _after(content, at, _STRING)
    return at
