"""train_tokens_per_s: the train program's steps over a bare transformers.Trainer with the same settings.

Trains a LoRA on a random Llama of 24 million parameters, one epoch of the same rows. Resumable checkpoints are written
at the default interval, every 15 s, and a repetition is long enough for some. Repetitions alternate, each in a fresh
process.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, command, interleaved
from benchmarks.inputs import random_model
from benchmarks.place import Place
from llmops_assets.programs.runtime.specs import TrainSpec
from tests.support.projects import rows, write_rows

SHAPE = {"hidden": 384, "layers": 8}
ROWS, QUICK_ROWS = 480, 16
LONGER = "says nothing that anyone has heard before, and is quoted here at some length"


def measure(place: Place) -> Measured:
    folder = place.folder("train")
    made: list[dict[str, Any]] = [
        {"input": f"{r['input']} {LONGER}", "output": f"{r['output']} {LONGER}"}
        for r in rows(QUICK_ROWS if place.quick else ROWS)
    ]
    write_rows(folder / "data/train.jsonl", made)
    base = random_model(folder / "base", **({} if place.quick else SHAPE))
    spec = TrainSpec(
        base=str(base),
        data=str(folder / "data"),
        prompt="Question: {{ input }}",
        method="lora",
        lora={"r": 16, "alpha": 32, "target_modules": "all-linear"},
        batch_size=8,
        max_length=512,
    )
    (folder / "spec.json").write_text(spec.model_dump_json())
    seen: set[int] = set()

    def tokens_per_s(side: str) -> float:
        output = place.folder(f"train-{side}")
        words = [sys.executable, "-m", "benchmarks.bare_trainer", "--side", side]
        said = command([*words, "--spec", str(folder / "spec.json"), "--output", str(output)], cwd=_root())
        done = json.loads(said.splitlines()[-1])
        seen.add(done["tokens"])
        return float(done["tokens"] / done["seconds"])

    found = interleaved(lambda: tokens_per_s("ours"), lambda: tokens_per_s("bare"), 1 if place.quick else 3)
    if len(seen) != 1:
        raise Unmeasured(f"the two sides trained on different numbers of tokens: {sorted(seen)}")
    return found


def _root() -> Path:
    return Path(__file__).resolve().parents[1]


BENCHMARK = Benchmark(
    name="train_tokens_per_s",
    unit="tokens/s",
    against="a bare transformers.Trainer",
    goals=(Goal("ratio", "at least", 0.95),),
    measure=measure,
)
