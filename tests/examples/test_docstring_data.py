"""The rows of the docstring example: the same on every run, and training rows contain no answer of the test rows."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from make_data import DataError, add_rows, make_data


def read(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), train_rows=1000, test_rows=200)


@pytest.fixture(scope="module")
def more(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("more")
    for file in data.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    add_rows(target, ["rich", "jinja2"], 200)
    return target


def test_the_same_python_gives_the_same_bytes(example: Path, data: Path, tmp_path: Path) -> None:
    """In a separate process: the order of sets differs between processes."""
    rows = ["--train-rows", "1000", "--test-rows", "200"]
    subprocess.run([sys.executable, example / "make_data.py", tmp_path, *rows], check=True)
    for file in data.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_fewer_training_rows_leave_the_test_rows_as_they_are(data: Path, tmp_path: Path) -> None:
    fewer = make_data(tmp_path, train_rows=10, test_rows=200)
    assert (fewer / "test.jsonl").read_bytes() == (data / "test.jsonl").read_bytes()
    assert (data / "train.jsonl").read_bytes().startswith((fewer / "train.jsonl").read_bytes())


def test_test_and_training_rows_share_no_code_and_no_function(more: Path) -> None:
    """A function in two modules would put its summary into both files, and inflate the model's metrics."""
    train, test = read(more / "train.jsonl"), read(more / "test.jsonl")
    assert (len(train), len(test)) == (1200, 200)
    for mark in (
        lambda row: " ".join(row["input"].split()),
        lambda row: row["source"],
        lambda row: (row["source"].rpartition(".")[2], row["output"].lower()),
    ):
        assert {mark(row) for row in train}.isdisjoint({mark(row) for row in test})
        assert len({mark(row) for row in train}) == len(train)


def test_no_code_gives_its_own_summary_away(data: Path) -> None:
    for row in [*read(data / "train.jsonl"), *read(data / "test.jsonl")]:
        assert row["output"] not in row["input"]
        [code] = ast.parse(row["input"]).body
        assert isinstance(code, ast.FunctionDef | ast.AsyncFunctionDef)
        first = next((argument.arg for argument in [*code.args.posonlyargs, *code.args.args]), "")
        assert row["kind"] == ("method" if first in ("self", "cls") else "function")
        assert 60 <= len(row["input"]) <= 400
        assert 20 <= len(row["output"]) <= 100


def test_more_packages_only_append_training_rows(data: Path, more: Path) -> None:
    assert (more / "test.jsonl").read_bytes() == (data / "test.jsonl").read_bytes()
    assert (more / "train.jsonl").read_bytes().startswith((data / "train.jsonl").read_bytes())
    added = {row["source"].partition(".")[0] for row in read(more / "train.jsonl")[1000:]}
    assert added == {"rich", "jinja2"}


def test_asking_for_too_many_rows_says_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gives \d+ rows, \d+ requested"):
        make_data(tmp_path, train_rows=100_000)


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no package 'no_such_package'"):
        make_data(tmp_path, ["no_such_package"], train_rows=10, test_rows=10)
