"""A tiny model, a few rows, and the programs' results, made once per session. Programs run as in production."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.forking import start
from tests.support.shared import once
from tests.support.tiny_model import CACHE, smollm2_tokenizer, tiny_model

PROMPT = "Say in one line what this function does.\n\n{{ input }}\n"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Ended:
    code: int
    output: Path
    said: str

    @property
    def result(self) -> dict[str, Any]:
        assert self.code == 0, self.said
        return json.loads((self.output / "result.json").read_text())

    @property
    def error(self) -> dict[str, str]:
        assert self.code == 2, self.said
        assert not (self.output / "result.json").exists()
        return json.loads((self.output / "error.json").read_text())

    @property
    def artifact(self) -> Path:
        return self.output / "artifact"


def command(program: str, spec: dict[str, Any], output: Path) -> list[str]:
    output.mkdir(parents=True, exist_ok=True)
    file = output / "spec.json"
    file.write_text(json.dumps(spec))
    return [sys.executable, "-m", f"llmops_assets.programs.{program}", "--spec", str(file), "--output", str(output)]


def run_program(program: str, spec: dict[str, Any], output: Path) -> Ended:
    """Runs a program in its own process; the libraries are imported once for all of them."""
    log = output.with_name(f"{output.name}.log")
    module, *words = command(program, spec, output)[2:]
    code = start(module, words, log).wait()
    return Ended(code, output, log.read_text(errors="replace"))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def some_rows(first: int, last: int) -> list[dict[str, str]]:
    return [{"input": f"def add_{i}(x):\n    return x + {i}", "output": f"Add {i} to x."} for i in range(first, last)]


@pytest.fixture(scope="session")
def tiny() -> Path:
    folder = CACHE / "tiny-llama-2"
    return once(folder, lambda: tiny_model(folder, smollm2_tokenizer))


def run_once(program: str, spec: dict[str, Any], output: Path) -> Ended:
    """A program's result for a spec, shared by all tests of the session."""
    return Ended(0, once(output, lambda: run_program(program, spec, output).result), "")


@pytest.fixture(scope="session")
def programs(cache: Path) -> Path:
    """The folder for the session's data and results."""
    folder = cache / "programs"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def data(programs: Path) -> Path:
    def write() -> None:
        for split, first, last in (("train", 0, 96), ("validation", 96, 104), ("test", 104, 124)):
            write_jsonl(programs / "data" / f"{split}.jsonl", some_rows(first, last))

    return once(programs / "data", write)


@pytest.fixture(scope="session")
def training(tiny: Path, data: Path) -> dict[str, Any]:
    """The spec of a training of 24 steps; a test may change fields."""
    return {
        "base": str(tiny), "data": str(data), "prompt": PROMPT, "method": "lora", "lora": {"r": 4, "alpha": 8},
        "learning_rate": 4e-3, "batch_size": 4, "max_steps": 24, "checkpoint_every_s": 60.0,
    }  # fmt: skip


@pytest.fixture(scope="session")
def trained(training: dict[str, Any], programs: Path) -> Ended:
    return run_once("train", training, programs / "trained")


@pytest.fixture(scope="session")
def evaluation(tiny: Path, data: Path, trained: Ended) -> dict[str, Any]:
    names = ("perplexity", "bits_per_byte", "bleu", "rouge1", "rougeL", "profanity")
    return {
        "method": "lora", "base": str(tiny), "checkpoint": str(trained.artifact), "data": str(data), "prompt": PROMPT,
        "metrics": [{"name": n} for n in names], "max_new_tokens": 6,
    }  # fmt: skip


@pytest.fixture(scope="session")
def evaluated(evaluation: dict[str, Any], programs: Path) -> Ended:
    spec = {**evaluation, "title": "A <script> in the title"}
    return run_once("evaluate", spec, programs / "evaluated")


@pytest.fixture(scope="session")
def quantized(tiny: Path, trained: Ended, programs: Path) -> Ended:
    spec = {"method": "lora", "base": str(tiny), "checkpoint": str(trained.artifact), "scheme": "q8_0"}
    return run_once("quantize", spec, programs / "quantized")


@pytest.fixture(scope="session")
def tiny_f16(tiny: Path, programs: Path) -> Path:
    """The base model as GGUF, without training and in float16: its logits are those of transformers."""
    spec = {"method": "none", "base": str(tiny), "checkpoint": str(tiny), "scheme": "f16"}
    made = run_once("quantize", spec, programs / "quantized-tiny-f16")
    return made.artifact / made.result["file"]


@pytest.fixture(scope="session")
def gguf(quantized: Ended) -> Path:
    return quantized.artifact / quantized.result["file"]


Make = Callable[..., Path]


@pytest.fixture
def base_without(tiny: Path, tmp_path: Path) -> Make:
    """A copy of the tiny model without the named files."""

    def make(*missing: str) -> Path:
        copy = tmp_path / "base"
        copy.mkdir()
        for file in tiny.iterdir():
            if file.name not in missing:
                (copy / file.name).symlink_to(file)
        return copy

    return make
