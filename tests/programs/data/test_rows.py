"""Rows of a hostile or damaged file: each is read, or refused with its place; never a stack trace."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_assets.programs.data.rows import MAX_ROW, canonical, read_rows
from llmops_assets.programs.runtime.errors import BadInput

GOOD = '{"input": "a", "output": "b"}\n'


def refused(file: Path) -> str:
    with pytest.raises(BadInput) as error:
        read_rows(file, "data/train.jsonl")
    assert len(str(error.value)) < 1_000
    return str(error.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"input": ' + "[" * 100_000, "line 2: not valid JSON: nested more than 40 levels deep"),
        ('{"input": "a", "output": "b", "n": ' + "[" * 60 + "]" * 60 + "}", "nested more than 40 levels deep"),
        ('{"input": "a\\ud83d", "output": "b"}', "line 2: an escape from \\ud800 to \\udfff is half of a character"),
        ('{"input": "a", "output": "b", "n": ' + "9" * 5_000 + "}", "line 2: Exceeds the limit (4300 digits)"),
        ("{" + ", ".join(f'"column {n}": 1' for n in range(5_000)) + "}", "input and output missing (it has "),
        ('{"messages": [{"role": "' + "x" * 50_000 + '", "content": "a"}]}', "message 1 has the role 'xxx"),
    ],
)
def test_a_hostile_line_is_one_short_reason(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "train.jsonl").write_text(GOOD + line + "\n")
    assert said in refused(tmp_path / "train.jsonl")


def test_a_line_that_is_longer_than_any_context_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "train.jsonl").open("wb") as file:
        file.write(GOOD.encode())
        file.truncate(10 * MAX_ROW)
    assert refused(tmp_path / "train.jsonl") == (
        "data/train.jsonl, line 2: longer than 16 MB, more than any model's context; split it"
    )


def test_characters_that_json_escapes_are_read(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"input": "\\ud83d\\ude42 \\u00e4", "output": "b"}\n')
    assert read_rows(tmp_path / "train.jsonl", "x")[0]["input"] == "🙂 ä"


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"input": "a", "output": "b"}] * 100), file)
    data = file.read_bytes()
    file.write_bytes(data[:40] + b"\xff" * 40 + data[80:])
    assert "data/train.jsonl: " in refused(file)


keys = st.sampled_from(["input", "output", "messages", "role", "content"])
values = st.recursive(
    st.none() | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=8
)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | values.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_line_holds_it_is_a_row_or_refused(tmp_path_factory: pytest.TempPathFactory, line: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.jsonl"
    file.write_bytes(line + b"\n")
    try:
        rows = read_rows(file, "fuzzed.jsonl")
    except BadInput:
        return
    assert all(canonical(row).encode() for row in rows)
