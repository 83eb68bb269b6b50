"""The rows of two dataset versions, compared split by split: added, removed and changed, with a few examples of each.

A row is changed if both versions have its input and its content differs. Rows are compared as sets with counts, so
their order does not matter. Only digests are held, of at most `AT_ONCE` rows or so: a larger split is read several
times, each time for another share of its inputs.
"""

import hashlib
import heapq
import json
import math
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from llmops_assets.domain.records import DatasetVersion, Split
from llmops_assets.domain.review import DataDiff, RowChange, RowExample, SplitDiff
from llmops_assets.programs.data.rows import PLACES, Row, messages_of, question
from llmops_assets.programs.evaluation.rows import shortened

SplitName = Literal["train", "validation", "test"]
AT_ONCE = 200_000
"""Rows whose digests are held: about 70 MB."""
EXAMPLES = 5
CHARACTERS = 400

Changed = tuple[int, int]
"""Numbers of a row: in the old version, in the new one."""


@dataclass
class _Found:
    added: int = 0
    removed: int = 0
    changed: int = 0
    first_added: list[int] = field(default_factory=list)
    first_removed: list[int] = field(default_factory=list)
    first_changed: list[Changed] = field(default_factory=list)


class Version(NamedTuple):
    """A dataset version: its splits, and the folder with its artifact; None if no split has to be read."""

    splits: tuple[Split, Split, Split]
    folder: Path | None = None

    @classmethod
    def of(cls, record: DatasetVersion, folder: Path | None = None) -> "Version":
        return cls((record.train, record.validation, record.test), folder)


@lru_cache(maxsize=4)  # of immutable versions: every page of a run shows the same one
def data_diff(before: Version, after: Version, at_once: int = AT_ONCE) -> DataDiff:
    """The difference between two dataset versions.

    Raises:
        OSError, ValueError: a split cannot be read.
    """
    old, new = before.folder or Path(), after.folder or Path()
    splits = zip(get_args(SplitName), before.splits, after.splits, strict=True)
    return DataDiff(splits=tuple(_split(name, was, old, now, new, at_once) for name, was, now in splits))


def _split(name: SplitName, was: Split, old: Path, now: Split, new: Path, at_once: int) -> SplitDiff:
    found = _Found()
    if was.digest != now.digest:
        passes = max(1, math.ceil(max(was.rows, now.rows) / at_once))
        for number in range(passes):
            _compare(old / f"{name}.jsonl", new / f"{name}.jsonl", number, passes, found)
    return SplitDiff(
        split=name,
        rows_before=was.rows,
        rows=now.rows,
        added=found.added,
        removed=found.removed,
        changed=found.changed,
        added_examples=_examples(new, name, found.first_added),
        removed_examples=_examples(old, name, found.first_removed),
        changed_examples=_changes(old, new, name, found.first_changed),
    )


def _compare(old: Path, new: Path, number: int, passes: int, found: _Found) -> None:
    """Compares the rows whose input belongs to this pass, and adds them to `found`."""
    left: dict[bytes, tuple[bytes, list[int]]] = {}
    """Content → its input, and the old rows that no new row is equal to."""
    for asked, content, row in _digests(old, number, passes):
        left.setdefault(content, (asked, []))[1].append(row)
    unknown: list[tuple[bytes, int]] = []
    for asked, content, row in _digests(new, number, passes):
        if (same := left.get(content)) and same[1]:
            same[1].pop()
        else:
            unknown.append((asked, row))
    unmatched: dict[bytes, deque[int]] = defaultdict(deque)
    for asked, rows in left.values():
        unmatched[asked].extend(rows)
    added, changed = [], []
    for asked, row in unknown:
        if unmatched.get(asked):
            changed.append((unmatched[asked].popleft(), row))
        else:
            added.append(row)
    removed = [row for rows in unmatched.values() for row in rows]
    found.added += len(added)
    found.removed += len(removed)
    found.changed += len(changed)
    found.first_added = heapq.nsmallest(EXAMPLES, [*found.first_added, *added])
    found.first_removed = heapq.nsmallest(EXAMPLES, [*found.first_removed, *removed])
    found.first_changed = heapq.nsmallest(EXAMPLES, [*found.first_changed, *changed], key=lambda pair: pair[1])


def _digests(file: Path, number: int, passes: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Of each row that belongs to this pass: the digests of its input and of its content, and its number from 1."""
    for row_number, line in _lines(file):
        asked = hashlib.blake2b(_asked(json.loads(line)).encode(errors="surrogatepass"), digest_size=8).digest()
        if int.from_bytes(asked, "big") % passes == number:
            yield asked, hashlib.blake2b(line, digest_size=8).digest(), row_number


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The canonical rows, so equal rows are equal bytes; a split without rows may have no file."""
    if file.is_file():
        with file.open("rb") as lines:
            yield from enumerate(lines, start=1)


def _asked(row: Row) -> str:
    """Everything before the answer."""
    return json.dumps([[m["role"], m["content"]] for m in messages_of(row)[:-1]], ensure_ascii=False)


def _picked(folder: Path, split: str, numbers: set[int]) -> dict[int, tuple[str, Row]]:
    """Number → place and content, of a few rows."""
    if not numbers:
        return {}
    rows = {n: json.loads(line) for n, line in _lines(folder / f"{split}.jsonl") if n in numbers}
    named: dict[int, str] = {}
    if (file := folder / f"{split}{PLACES}").is_file():
        with file.open(encoding="utf-8") as lines:
            named = {n: line.strip() for n, line in enumerate(lines, start=1) if n in numbers}
    return {n: (named.get(n, f"{split}, row {n}"), row) for n, row in rows.items()}


def _examples(folder: Path, split: str, numbers: list[int]) -> tuple[RowExample, ...]:
    found = _picked(folder, split, set(numbers))
    return tuple(RowExample(place=found[n][0], text=_shown(found[n][1])) for n in numbers)


def _changes(old: Path, new: Path, split: str, pairs: list[Changed]) -> tuple[RowChange, ...]:
    was, now = (_picked(folder, split, {pair[i] for pair in pairs}) for i, folder in enumerate((old, new)))
    return tuple(_change(was[before][1], *now[after]) for before, after in pairs)


def _change(before: Row, place: str, after: Row) -> RowChange:
    differ = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    return RowChange(
        place=place,
        input=shortened(question(after), CHARACTERS),
        before={name: _shown(before[name]) for name in differ if name in before},
        after={name: _shown(after[name]) for name in differ if name in after},
    )


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return shortened(text, CHARACTERS)
