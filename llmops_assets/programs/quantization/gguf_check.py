"""Verifies that a GGUF file is whole, from its header and its length, in a tenth of a second.

The gguf library's reader takes 3 to 8 CPU seconds for a vocabulary of 49,152 tokens, since it decodes each of them. The
header's values belong in `programs.quantization.gguf_header`.
"""

import math
import mmap
import struct
from pathlib import Path

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


def _contents(content: mmap.mmap) -> tuple[int, set[str], int]:
    """The number of tokens, the tensors' names, and where the last tensor ends, in bytes."""
    from gguf.constants import GGML_QUANT_SIZES

    sizes: dict[int, tuple[int, int]] = {int(kind): of for kind, of in GGML_QUANT_SIZES.items()}
    tensors, values = struct.unpack_from("<QQ", content, 8)
    at, tokens, alignment = 24, 0, _ALIGNMENT
    for _ in range(values):
        key, at = _string(content, at)
        (kind,) = struct.unpack_from("<I", content, at)
        if key == "general.alignment" and kind == _UINT32:
            (alignment,) = struct.unpack_from("<I", content, at + 4)
        if key == TOKENS and kind == _ARRAY:
            (tokens,) = struct.unpack_from("<Q", content, at + 8)
        at = _after(content, at + 4, kind)
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
