"""A program imports only what its work needs: each heavy library adds seconds to every start."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs.conftest import ENVIRONMENT, command, some_rows, write_jsonl

HEAVY = ("torch", "transformers", "peft", "datasets", "evaluate", "pandas", "pyarrow", "scipy", "sklearn")


def imported(words: list[str]) -> set[str]:
    """The packages that a Python command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, check=True
    )
    lines = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {name.partition(".")[0] for name in lines}


@pytest.mark.parametrize(
    "program", ["ci", "dataset", "train", "evaluate", "quantize", "served_evaluate", "serve", "runtime.specs"]
)
def test_reading_a_program_imports_nothing_heavy(program: str) -> None:
    """Bad input is reported at once, and a new top-level import does not slow down every start."""
    assert imported(["-c", f"import llmops_assets.programs.{program}"]) & set(HEAVY) == set()


def test_the_lengths_of_a_dataset_are_measured_without_torch(tmp_path: Path, tiny: Path) -> None:
    spec = {
        "train": str(write_jsonl(tmp_path / "train.jsonl", some_rows(0, 8))),
        "test": str(write_jsonl(tmp_path / "test.jsonl", some_rows(8, 12))),
        "names": {}, "tokenizer": str(tiny),
    }  # fmt: skip
    found = imported(command("dataset", spec, tmp_path / "out")[1:])
    assert "tokenizers" in found and found & set(HEAVY) == set()


def test_the_projects_tests_start_without_torch(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    found = imported(command("ci", {"work_tree": str(tmp_path / "tree"), "ruff": False}, tmp_path / "out")[1:])
    assert found & set(HEAVY) == set()


def test_a_command_starts_without_dagster() -> None:
    """One module on every command's way imported it for an exception: 0.75 CPU seconds to `--help` became 1.6."""
    heavy = {*HEAVY, "dagster", "mlflow", "dvc", "sqlalchemy", "numpy"}
    assert imported(["-m", "llmops_assets.cli", "--help"]) & heavy == set()
