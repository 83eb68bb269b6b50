"""The data diff: against a reference that holds all rows, in several passes, and what the examples say."""

import json
import random
import tracemalloc
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from llmops_assets.domain.records import Split
from llmops_assets.domain.review import SplitDiff
from llmops_assets.programs.data.diff import Version, data_diff
from llmops_assets.programs.data.rows import canonical, digest_of, write_places, write_rows

EMPTY = Split(rows=0, digest=digest_of([]))


def version(folder: Path, rows: list[dict[str, Any]], name: str = "data/train.jsonl") -> Version:
    """A dataset version whose train split has these rows."""
    folder.mkdir()
    write_rows(folder / "train.jsonl", rows)
    write_places(folder, {"train": [f"{name}, line {n}" for n in range(1, len(rows) + 1)]})
    return Version((Split(rows=len(rows), digest=digest_of(rows)), EMPTY, EMPTY), folder)


def counted(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> tuple[int, int, int]:
    """(added, removed, changed), by holding everything."""
    old, new = Counter(map(canonical, before)), Counter(map(canonical, after))
    gone, come = defaultdict(int), defaultdict(int)
    for rows, found in ((old - new, gone), (new - old, come)):
        for text, count in rows.items():
            found[json.loads(text)["input"]] += count
    changed = sum(min(gone[asked], come[asked]) for asked in {*gone, *come})
    return sum(come.values()) - changed, sum(gone.values()) - changed, changed


def train(before: Version, after: Version, at_once: int = 200_000) -> SplitDiff:
    found = data_diff(before, after, at_once).splits[0]
    assert found.split == "train"
    return found


def test_rows_are_counted_as_a_reference_counts_them_also_in_several_passes(tmp_path: Path) -> None:
    """Duplicates, reordered rows, and equal inputs with several answers."""
    chance = random.Random(3)

    def rows() -> list[dict[str, Any]]:
        return [{"input": f"q{chance.randrange(60)}", "output": f"a{chance.randrange(3)}"} for _ in range(200)]

    before, after = rows(), rows()
    old, new = version(tmp_path / "old", before), version(tmp_path / "new", after)
    for at_once in (200_000, 50, 7):
        found = train(old, new, at_once)
        assert (found.added, found.removed, found.changed) == counted(before, after), at_once
        assert (found.rows_before, found.rows) == (200, 200)
    shuffled = version(tmp_path / "shuffled", chance.sample(before, len(before)))
    assert not train(old, shuffled).differs


def test_an_example_says_where_the_row_is_and_which_fields_changed(tmp_path: Path) -> None:
    before = [{"input": f"q{n}", "output": "a", "source": "x"} for n in range(9)]
    after = [
        *before[1:3],
        {"input": "q3", "output": "b", "kind": "k", "source": "x"},
        *before[4:],
        {"input": "new", "output": "a" * 9999},
    ]
    found = train(version(tmp_path / "old", before, "old.jsonl"), version(tmp_path / "new", after))
    assert (found.added, found.removed, found.changed) == (1, 1, 1)
    [removed], [added], [changed] = found.removed_examples, found.added_examples, found.changed_examples
    assert (removed.place, json.loads(removed.text)["input"]) == ("old.jsonl, line 1", "q0")
    assert added.place == "data/train.jsonl, line 9" and "characters" in added.text and len(added.text) < 600
    assert (changed.place, changed.input) == ("data/train.jsonl, line 3", "q3")
    assert (changed.before, changed.after) == ({"output": "a"}, {"output": "b", "kind": "k"})


def test_conversations_are_paired_by_all_turns_before_the_answer(tmp_path: Path) -> None:
    def talk(*contents: str) -> dict[str, Any]:
        roles = ("user", "assistant", "user", "assistant")
        return {"messages": [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]}

    before = [talk("a", "b", "c", "d"), talk("e", "f")]
    after = [talk("a", "b", "c", "other"), talk("e2", "f")]
    found = train(version(tmp_path / "old", before), version(tmp_path / "new", after))
    assert (found.added, found.removed, found.changed) == (1, 1, 1)
    assert found.changed_examples[0].input == "c"


def test_only_digests_of_a_share_of_the_rows_are_held(tmp_path: Path) -> None:
    """Rows of 4 KB each, all different: 24 MB of text."""
    old = version(tmp_path / "old", [{"input": f"q{n}", "output": "x" * 4000} for n in range(3_000)])
    new = version(tmp_path / "new", [{"input": f"p{n}", "output": "x" * 4000} for n in range(3_000)])
    tracemalloc.start()
    found = train(old, new, 1_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.added, found.removed) == (3_000, 3_000) and len(found.added_examples) == 5
    assert peak < 3 * 2**20


def test_equal_splits_are_not_read() -> None:
    """The champion's version may be on another machine, and a project may have no training rows."""
    found = data_diff(Version((EMPTY, EMPTY, EMPTY)), Version((EMPTY, EMPTY, EMPTY)))
    assert found.text == "the same rows in the same splits"
