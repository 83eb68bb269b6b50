"""Reports the progress of a training: step, loss, speed and remaining time. Ends one that diverges."""

import math
import time
from typing import Any

from transformers import TrainerCallback

from llmops_assets.domain.divergence import REMEDY, Divergence
from llmops_assets.programs.runtime.entry import ProgramRun
from llmops_assets.programs.runtime.errors import TrainingDiverged


class TrainingProgress(TrainerCallback):
    """Reports at most one line per second, and always the last one."""

    def __init__(self, job: ProgramRun):
        self.job = job
        self._began = time.monotonic()
        self._first_step = 0
        self._first_token = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.monotonic()
        self._first_step = state.global_step
        self._first_token = int(state.num_input_tokens_seen)
        self._divergence = Divergence(math.ceil(state.max_steps / max(1, int(args.logging_steps))))
        for entry in state.log_history:  # of a training that is resumed
            if "loss" in entry:
                self._divergence.read(float(entry["loss"]))
        # A first step can take minutes; until it is done, this is what people see.
        self.job.progress("train", step=state.global_step, total=state.max_steps)

    def tokens_per_s(self, tokens: int) -> float:
        """Speed of this process, without the steps of an earlier one."""
        return (tokens - self._first_token) / max(time.monotonic() - self._began, 1e-9)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        steps = state.global_step - self._first_step
        elapsed = time.monotonic() - self._began
        last = state.global_step >= state.max_steps
        self.job.progress(
            "train",
            every_s=0.0 if last else 1.0,
            step=state.global_step,
            total=state.max_steps,
            loss=loss if math.isfinite(loss) else None,
            tokens_per_s=self.tokens_per_s(int(state.num_input_tokens_seen)),
            eta_s=elapsed / max(steps, 1) * (state.max_steps - state.global_step),
            learning_rate=float(logs.get("learning_rate", 0.0)),
        )
        if problem := self._divergence.read(loss):
            raise TrainingDiverged(
                f"the training diverged at step {state.global_step} of {state.max_steps}: {problem}; {REMEDY}"
            )
