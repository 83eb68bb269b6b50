"""Complete, resumable training checkpoints: DIR/resume/checkpoint-N, complete once it contains COMPLETE.json.

`Trainer` leaves half-written checkpoints when it is killed (transformers#35782) and would resume from them. So a marker
with the size of every file is written last, and a folder without it, or that differs from it, is deleted at the start.
Training belongs in `programs.training.trainer`.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from llmops_assets.machine.files import write_atomically
from llmops_assets.programs.runtime.entry import ProgramRun

MARKER = "COMPLETE.json"
COST = 10.0  # a checkpoint may take at most 1/10 of the time between two of them, for a model of any size


def prepare(folder: Path, identity: str) -> Path | None:
    """Deletes unusable checkpoints and returns the newest complete one.

    Args:
        folder: DIR/resume.
        identity: digest of everything that affects the training; checkpoints of another one are deleted.
    """
    note = folder / "identity"
    if folder.exists() and (not note.exists() or note.read_text(encoding="utf-8") != identity):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(note, identity)
    complete = []
    for checkpoint in folder.glob("checkpoint-*"):
        if _is_complete(checkpoint):
            complete.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(complete, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _sizes(checkpoint: Path) -> dict[str, int]:
    files = (p for p in checkpoint.rglob("*") if p.is_file() and p.name != MARKER)
    return {str(p.relative_to(checkpoint)): p.stat().st_size for p in sorted(files)}


def _is_complete(checkpoint: Path) -> bool:
    try:
        recorded = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(recorded == _sizes(checkpoint))


class TimedCheckpoints(TrainerCallback):
    """Requests a checkpoint every `every_s` seconds and marks it complete once it is written."""

    def __init__(self, job: ProgramRun, folder: Path, every_s: float):
        self.job, self.folder, self.every_s = job, folder, every_s
        self._asked = self._last = time.monotonic()
        self._cost = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        if now - self._last >= max(self.every_s, COST * self._cost) and state.global_step < state.max_steps:
            self._asked = now
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        checkpoint = self.folder / f"checkpoint-{state.global_step}"
        write_atomically(checkpoint / MARKER, json.dumps(_sizes(checkpoint)))
        self._last = time.monotonic()
        self._cost = self._last - self._asked
        self.job.progress("checkpoint", step=state.global_step, total=state.max_steps, seconds=self._cost)
