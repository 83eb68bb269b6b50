"""Reads rows, validates their shape, and writes them canonically.

A row is {"input", "output", ...} or {"messages": [{"role", "content"}, ...]}. Checks beyond the shape belong in
`programs.dataset`, tokens in `programs.data.encoding`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_assets.config.documents import DocumentError, parse_json
from llmops_assets.domain.formatting import excerpt, quoted
from llmops_assets.programs.runtime.errors import BadInput

Row = dict[str, Any]
MAX_ROW = 16 * 2**20
"""Bytes of one line: one with a million tokens has 4 MB."""
PLACES = ".places.txt"
ROLES = ("system", "user", "assistant", "tool")


def read_rows(path: Path, name: str) -> list[Row]:
    """The rows of a .jsonl or .parquet file. Arguments and errors are those of `read_placed`."""
    return [row for _, row in read_placed(path, name)]


def read_placed(path: Path, name: str) -> Iterator[tuple[str, Row]]:
    """The rows of a .jsonl or .parquet file, each with its place: "data/train.jsonl, line 3".

    Args:
        path: of the file.
        name: of the file in the project, for messages.

    Raises:
        BadInput: the file cannot be read; names its first malformed line and the error.
    """
    if not path.is_file():
        raise BadInput("the file does not exist; push it to the DVC remote", name)
    if path.suffix == ".parquet":
        numbered: Iterable[tuple[str, Row]] = _parquet(path, name)
    elif path.suffix == ".jsonl":
        numbered = _jsonl(path, name)
    else:
        raise BadInput("rows must be in a .jsonl or .parquet file; convert it", name)
    for where, row in numbered:
        problem = _problem(row)
        if problem:
            raise BadInput(problem, where)
        yield where, row


def _jsonl(path: Path, name: str) -> Iterator[tuple[str, Row]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_ROW + 1):
            number += 1
            where = f"{name}, line {number}"
            if len(line) > MAX_ROW:
                raise BadInput(f"longer than {MAX_ROW // 2**20} MB, more than any model's context; split it", where)
            if not line.strip():
                continue
            try:
                row = parse_json(line.decode("utf-8-sig" if number == 1 else "utf-8"), _refuse)
                if b"\\u" in line:
                    canonical(row).encode()
                yield where, row
            except UnicodeEncodeError as error:
                told = "an escape from \\ud800 to \\udfff is half of a character; write the whole character"
                raise BadInput(told, where) from error
            except UnicodeDecodeError as error:
                raise BadInput(f"not UTF-8 at byte {error.start}", where) from error
            except DocumentError as error:
                raise BadInput(str(error), where) from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON; leave the value out or write null")


def _parquet(path: Path, name: str) -> Iterator[tuple[str, Row]]:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"not a Parquet file: {excerpt(str(error))}", name) from error
    columns = set(table.column_names)
    if "messages" not in columns and not {"input", "output"} <= columns:
        lacking = sorted({"input", "output"} - columns)
        raise BadInput(
            f"column {', '.join(lacking)} is missing (it has {', '.join(sorted(columns)) or 'none'}); rows need input "
            "and output, or messages",
            name,
        )
    try:
        rows = table.to_pylist()
    except (pyarrow.ArrowException, ValueError, ArithmeticError) as error:  # a date that Python does not have
        raise BadInput(f"a value cannot be read: {excerpt(str(error))}", name) from error
    for number, row in enumerate(rows, start=1):
        yield f"{name}, row {number}", row


def _problem(row: object) -> str | None:
    """What is wrong with a row's shape; None if nothing."""
    if not isinstance(row, dict):
        return f"a row must be an object with input and output, not {type(row).__name__}"
    if row.get("messages") is not None:
        return _messages_problem(row["messages"])
    lacking = [c for c in ("input", "output") if row.get(c) is None]
    if lacking:
        return f"{' and '.join(lacking)} missing (it has {excerpt(', '.join(sorted(map(str, row)))) or 'nothing'})"
    wrong = [c for c in ("input", "output") if not isinstance(row[c], str)]
    if wrong:
        return f"{wrong[0]} must be text, not {type(row[wrong[0]]).__name__}"
    return None


def _messages_problem(messages: object) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "messages must be a list with at least one message"
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            return f"message {number} must be an object with role and content, both text"
        if message.get("role") not in ROLES:
            return f"message {number} has the role {quoted(message.get('role'))}; known: {', '.join(ROLES)}"
    roles = [m["role"] for m in messages]
    if roles[-1] != "assistant":
        return f"the last message must be the assistant's, not the {roles[-1]}'s: it is learned and measured"
    if "user" not in roles:
        return "messages has no user turn"
    return None


def messages_of(row: Row) -> list[dict[str, str]]:
    """The conversation, with the inputs as user turns: the chat template adds the prompt."""
    if row.get("messages") is not None:
        return [{"role": m["role"], "content": m["content"]} for m in row["messages"]]
    return [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": row["output"]}]


def question(row: Row) -> str:
    """The last user turn, without the prompt."""
    return next(m["content"] for m in reversed(messages_of(row)) if m["role"] == "user")


def reference(row: Row) -> str:
    return messages_of(row)[-1]["content"]


def canonical(row: Row) -> str:
    """The row as one line: equal rows are equal bytes, independent of their file's format."""
    return json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)


def digest_of(rows: Iterable[Row]) -> str:
    """SHA-256 over the canonical rows in order."""
    sha = hashlib.sha256()
    for row in rows:
        sha.update(canonical(row).encode() + b"\n")
    return sha.hexdigest()


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(canonical(row) + "\n")


def write_places(folder: Path, placed: Mapping[str, Sequence[str]]) -> None:
    """Writes beside the splits of a dataset version where in the project each row came from."""
    for split, found in placed.items():
        (folder / f"{split}{PLACES}").write_text("".join(f"{place}\n" for place in found), encoding="utf-8")


def places(folder: Path, split: str, count: int) -> list[str]:
    """Where in the project each row of a split came from; in dataset versions of earlier versions, its row there."""
    file = folder / f"{split}{PLACES}"
    if not file.is_file():
        return [f"{split}.jsonl, row {n}" for n in range(1, count + 1)]
    return file.read_text(encoding="utf-8").splitlines()


def load_split(folder: Path, split: str) -> list[Row]:
    """A split of a dataset version that `programs.dataset` has written."""
    return read_rows(folder / f"{split}.jsonl", f"{split}.jsonl")
