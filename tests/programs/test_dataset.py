"""The dataset program: unreadable input, warnings and splits."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from llmops_assets.programs.dataset import split_off
from tests.programs.conftest import Ended, run_program, some_rows, write_jsonl

NAMES = {"train": "data/train.jsonl", "test": "data/test.jsonl"}


def make(tmp_path: Path, train_rows: list[Any], test_rows: list[Any], **more: Any) -> Ended:
    spec = {
        "train": str(write_jsonl(tmp_path / "train.jsonl", train_rows)),
        "test": str(write_jsonl(tmp_path / "test.jsonl", test_rows)),
        "names": NAMES, "tokenizer": None, **more,
    }  # fmt: skip
    return run_program("dataset", spec, tmp_path / "out")


def check(done: Ended, name: str) -> dict[str, Any]:
    return next(c for c in done.result["checks"] if c["name"] == name)


def test_clean_rows_pass_every_check_and_come_out_canonical(tmp_path: Path, tiny: Path) -> None:
    done = make(tmp_path, some_rows(0, 40), some_rows(40, 50), tokenizer=str(tiny))
    assert all(c["passed"] for c in done.result["checks"])
    assert done.result["train"]["rows"] + done.result["validation"]["rows"] == 40
    assert done.result["validation"]["rows"] >= 1
    first = (done.artifact / "test.jsonl").read_text().splitlines()[0]
    assert first == json.dumps(some_rows(40, 41)[0], sort_keys=True, separators=(",", ":"))
    assert done.result["statistics"]["tokens_max"] >= done.result["statistics"]["tokens_p50"] > 5


def test_equal_rows_have_equal_digests_whatever_file_they_come_from(tmp_path: Path) -> None:
    rows = some_rows(0, 30)
    parquet = tmp_path / "test.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
    one = make(tmp_path / "a", some_rows(50, 60), [dict(reversed(r.items())) for r in rows])
    two = make(tmp_path / "b", some_rows(50, 60), rows, test=str(parquet))
    assert one.result["test"] == two.result["test"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"input": "x", "output": ', "not valid JSON"),
        ('{"input": "x"}', "output missing (it has input)"),
        ('{"input": "x", "output": 3}', "output must be text, not int"),
        ('["x", "y"]', "must be an object"),
        ('{"input": "x", "output": "y", "score": NaN}', "NaN is not JSON"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "last message must be the assistant's"),
        ('{"messages": [{"role": "bot", "content": "x"}]}', "role 'bot'"),
        ('{"messages": []}', "at least one message"),
    ],
)
def test_a_malformed_line_is_named_with_its_number(tmp_path: Path, line: str, problem: str) -> None:
    train = write_jsonl(tmp_path / "bad.jsonl", some_rows(0, 2))
    train.write_text(train.read_text() + "\n" + line + "\n")  # the empty third line counts
    error = make(tmp_path, [], some_rows(5, 7), train=str(train)).error
    assert error["where"] == "data/train.jsonl, line 4"
    assert problem in error["message"]


def test_bytes_that_are_not_utf_8_are_named_with_their_line(tmp_path: Path) -> None:
    train = tmp_path / "latin.jsonl"
    train.write_bytes(b'{"input": "a", "output": "b"}\n{"input": "\xe4", "output": "b"}\n')
    error = make(tmp_path, [], some_rows(5, 7), train=str(train)).error
    assert error["where"] == "data/train.jsonl, line 2" and "UTF-8" in error["message"]


def test_a_parquet_file_without_a_needed_column_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"input": "a", "label": "b"}]), file)
    error = make(tmp_path, [], some_rows(0, 2), train=str(file)).error
    assert "column output is missing (it has input, label)" in error["message"]


def test_an_empty_test_set_is_refused(tmp_path: Path) -> None:
    error = make(tmp_path, some_rows(0, 10), []).error
    assert error["where"] == "data/test.jsonl" and "no rows" in error["message"]


def test_a_file_that_was_never_pushed_is_reported(tmp_path: Path) -> None:
    error = make(tmp_path, some_rows(0, 2), some_rows(2, 4), test=str(tmp_path / "absent.jsonl")).error
    assert error["where"] == "data/test.jsonl" and "DVC" in error["message"]


def test_a_test_question_in_the_training_rows_is_a_leak_whatever_its_spacing(tmp_path: Path) -> None:
    leaked = {"input": "  DEF add_3(x):\n\n return x + 3 ", "output": "another answer"}
    done = make(tmp_path, some_rows(0, 10), [*some_rows(20, 22), leaked])
    seen = check(done, "leakage")
    assert not seen["passed"] and seen["severity"] == "error" and "row 3" in seen["detail"]
    assert done.result["statistics"]["leaked"] == 1


def test_duplicate_rows_are_a_warning(tmp_path: Path) -> None:
    seen = check(make(tmp_path, [*some_rows(0, 10), *some_rows(0, 1)], some_rows(20, 22)), "duplicates")
    assert not seen["passed"] and seen["severity"] == "warn" and "2 times" in seen["detail"]


def test_an_empty_answer_fails_with_its_place(tmp_path: Path) -> None:
    seen = check(make(tmp_path, some_rows(0, 9), [*some_rows(20, 22), {"input": "x", "output": " \n"}]), "empty_fields")
    assert not seen["passed"] and seen["detail"] == "data/test.jsonl, row 3"


def test_a_row_longer_than_the_context_fails(tmp_path: Path, tiny: Path) -> None:
    long = {"input": "word " * 600, "output": "y"}
    seen = check(make(tmp_path, some_rows(0, 9), [*some_rows(20, 22), long], tokenizer=str(tiny)), "lengths")
    assert not seen["passed"] and "512 tokens" in seen["summary"] and "data/test.jsonl, row 3: " in seen["detail"]


def test_rows_that_are_added_later_move_none_between_training_and_validation() -> None:
    before = split_off(some_rows(0, 200), 0.2, 7, "train")
    after = split_off(some_rows(0, 300), 0.2, 7, "train")
    assert [r for r in after[1] if r in before[1]] == before[1]
    assert [r for r in after[0] if r in before[0]] == before[0]
    assert 20 <= len(before[1]) <= 60


def test_another_seed_is_another_share() -> None:
    assert split_off(some_rows(0, 200), 0.2, 7, "t")[1] != split_off(some_rows(0, 200), 0.2, 8, "t")[1]


def test_answers_to_one_question_stay_together() -> None:
    rows = [{**row, "output": f"{n}"} for row in some_rows(0, 30) for n in range(3)]
    train, validation = split_off(rows, 0.3, 7, "train")
    assert not {r["input"] for r in train} & {r["input"] for r in validation}


def test_without_training_only_the_test_rows_are_needed(tmp_path: Path) -> None:
    result = make(tmp_path, [], some_rows(0, 3), train=None).result
    assert (result["train"]["rows"], result["validation"]["rows"], result["test"]["rows"]) == (0, 0, 3)


def test_rows_that_must_pass_are_checked_like_test_rows_and_are_never_in_training(tmp_path: Path) -> None:
    kept = write_jsonl(tmp_path / "kept.jsonl", some_rows(30, 32))
    done = make(tmp_path, some_rows(0, 10), some_rows(20, 22), must_pass=str(kept))
    assert check(done, "must_pass_leakage")["passed"] and len(set(done.result["must_pass"])) == 2
    assert len((done.artifact / "must_pass.jsonl").read_text().splitlines()) == 2
    leaking = write_jsonl(tmp_path / "leaking.jsonl", [*some_rows(30, 31), *some_rows(3, 4)])
    done = make(tmp_path / "again", some_rows(0, 10), some_rows(20, 22), must_pass=str(leaking))
    found = check(done, "must_pass_leakage")
    assert not found["passed"] and found["severity"] == "error" and "row 2" in found["detail"]
    assert "must_pass" not in make(tmp_path / "none", some_rows(0, 10), some_rows(20, 22)).result["checks"][-1]["name"]
