"""A task of lm-evaluation-harness: `{metric: lm_eval, name: NAME, file: TASK.yaml, rows: ROWS.jsonl}`."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from llmops_assets.domain.evaluated_rows import slice_columns
from llmops_assets.programs.data.rows import canonical
from llmops_assets.programs.evaluation.lm_task import (
    Task,
    TaskError,
    longest_request,
    on_engine,
    on_model,
    read_rows,
    read_task,
    run_task,
)
from llmops_assets.programs.evaluation.metrics.base import Answer, Subject, TaskMetric, TaskRow, digest_of
from llmops_assets.programs.runtime.errors import BadInput


class LmEval(TaskMetric):
    """The mean of the task's metric over its rows, with the task's own prompts, as lm-eval computes it.

    The prompts are the task's: the project's prompt and the chat template are not applied, as in lm-eval by default. It
    shows what a model has forgotten: before quantization, and as served.

    Statistics: the value of the row, and 1.
    """

    def check_file(self) -> None:
        try:
            _ = self._task
            if "rows" in self.options:
                read_rows(self.options["rows"])
        except TaskError as error:
            raise BadInput(f"its task: {error}", self.name) from error

    def check(self, rows: Sequence[Answer]) -> None:
        self.check_file()

    @cached_property
    def _task(self) -> Task:
        return read_task(self.options["file"])

    def measure(self, subject: Subject, most: int | None = None) -> list[TaskRow]:
        rows = read_rows(self.options["rows"])[:most]
        if subject.engine is not None:
            lm = on_engine(subject.engine, subject.tokenizer)
        else:
            lm = on_model(subject.model, subject.tokenizer, subject.batch_size)
            if (longest := self.longest(subject.tokenizer)) > lm.max_length:  # lm-eval would cut its prompt silently
                told = f"a row has {longest} tokens with its prompt and answer, the model's context is {lm.max_length}"
                raise BadInput(f"{told}; shorten the row or the task's prompt, or drop the row", self.name)
        try:
            found = run_task(self._task, rows, lm)
        except TaskError as error:
            raise BadInput(f"its task: {error}", self.name) from error
        return [
            TaskRow(
                digest=digest_of(canonical(dict(one.row))),
                input=canonical(dict(one.row)),
                reference=one.target,
                prediction=one.answers,
                value=one.value,
                statistics=(one.value, 1.0),
                columns=slice_columns(one.row),
            )
            for one in found
        ]

    def longest(self, tokenizer: Any) -> int:
        try:
            return longest_request(self._task, read_rows(self.options["rows"]), tokenizer)
        except TaskError as error:
            raise BadInput(f"its task: {error}", self.name) from error

    def facts(self) -> dict[str, Any]:
        shots = f", {self._task.num_fewshot} examples in the prompt" if self._task.num_fewshot else ""
        return {f"Task ({self.name})": f"{self._task.metric} of {self._task.output_type} by lm-eval{shots}"}
