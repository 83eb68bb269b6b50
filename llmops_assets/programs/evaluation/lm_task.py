"""A task of lm-evaluation-harness (lm-eval) from a YAML file and rows of the project, run on a model or an engine.

A project is not trusted: `!function` and everything that names code, the hub or other files is refused, and lm-eval
renders the templates in a sandbox.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator

from llmops_assets.config.documents import DocumentError, parse_json, parse_yaml
from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.models import Strict
from llmops_assets.programs.engines.interface import EngineClient

NAME, SPLIT = "task", "test"
IGNORED = ("task", "tag", "dataset_path", "dataset_name", "dataset_kwargs", "test_split", "metadata")
"""Keys that say how lm-eval itself would find the task and its rows."""
METRICS = ("acc", "acc_norm", "exact_match")
"""Means over the rows. Others of lm-eval have no value of a row."""
Scalar = str | int | float | bool


class TaskError(ValueError):
    """The task cannot be run; the message names the line or key."""


class TaskMetricEntry(Strict):
    metric: Literal["acc", "acc_norm", "exact_match"]
    aggregation: Literal["mean"] = "mean"
    higher_is_better: Literal[True] = True
    ignore_case: bool = False
    ignore_punctuation: bool = False


class Task(Strict):
    """The keys of lm-eval's YAML files that are used here."""

    output_type: Literal["multiple_choice", "generate_until", "loglikelihood"]
    doc_to_text: str
    doc_to_target: str | int
    doc_to_choice: str | list[str] | None = None
    description: str = ""
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    num_fewshot: int = Field(default=0, ge=0, le=64)
    generation_kwargs: dict[str, Scalar | list[str]] | None = None
    metric_list: tuple[TaskMetricEntry, ...] = Field(min_length=1, max_length=1)

    @field_validator("num_fewshot", mode="before")
    @classmethod
    def _none_is_zero(cls, value: Any) -> Any:
        return 0 if value is None else value

    @property
    def metric(self) -> str:
        return self.metric_list[0].metric


class Measured(NamedTuple):
    """One row of the task."""

    row: Mapping[str, Any]
    value: float
    target: str
    answers: str


def read_task(text: str) -> Task:
    """The task of a YAML file.

    Raises:
        TaskError: it is not one, or uses a key that is not supported.
    """
    try:
        _, value = parse_yaml(text)
        if not isinstance(value, dict):
            raise TaskError("it is no mapping; write a task of lm-evaluation-harness")
        return Task.model_validate({key: v for key, v in value.items() if key not in IGNORED})
    except DocumentError as error:
        raise TaskError(f"line {error.line}: {error.problem}" if error.line else error.problem) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise TaskError(f"{key}: not supported here (supported: {', '.join(Task.model_fields)})") from error
        raise TaskError(f"{key}: {first['msg']}") from error


def read_rows(text: str) -> list[dict[str, Any]]:
    """The rows of a JSONL file.

    Raises:
        TaskError: a line is no object, or there is none.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except DocumentError as error:
            raise TaskError(f"line {number} of its rows: {error.problem}") from error
        if not isinstance(row, dict):
            raise TaskError(f"line {number} of its rows: not an object; write one per line")
        found.append(row)
    if not found:
        raise TaskError("it has no rows; write one JSON object per line")
    return found


def _check_targets(made: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Raises TaskError for a row whose answer is none of its choices, which lm-eval would count as wrong."""
    for number, row in enumerate(rows, start=1):
        choices, target = made.doc_to_choice(row), made.doc_to_target(row)
        known = range(len(choices)) if isinstance(target, int) else choices
        if target not in known:
            raise TaskError(
                f"row {number}: doc_to_target gives {target!r:.80}, which is none of its {len(choices)} choices"
            )


def on_model(model: Any, tokenizer: Any, batch: int) -> Any:
    """lm-eval's language model of a loaded transformers model."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch)


def on_engine(engine: EngineClient, tokenizer: Any) -> Any:
    """lm-eval's language model of a running engine."""
    from llmops_assets.programs.evaluation.engine_lm import EngineLM

    return EngineLM(tokenizer, engine)


def longest_request(task: Task, rows: Sequence[dict[str, Any]], tokenizer: Any) -> int:
    """Tokens of the longest request, with its answer.

    Raises:
        TaskError: a template or a row does not fit.
    """
    from llmops_assets.programs.evaluation.engine_lm import EngineLM

    measuring = EngineLM(tokenizer, None)
    run_task(task, rows, measuring)
    return measuring.longest


def run_task(task: Task, rows: Sequence[dict[str, Any]], lm: Any) -> list[Measured]:
    """The value of each row, in their order.

    Args:
        lm: of `on_model` or `on_engine`.

    Raises:
        TaskError: a template or a row does not fit.
    """
    import datasets
    import lm_eval
    import lm_eval.utils
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from lm_eval.api.task import ConfigurableTask

    # lm-eval's own environment would run any Python that a template reaches.
    lm_eval.utils.env = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        data = datasets.DatasetDict({SPLIT: datasets.Dataset.from_list(list(rows))})
        made = ConfigurableTask(
            config={
                **task.model_dump(mode="json", exclude_none=True),
                "task": NAME,
                "test_split": SPLIT,
                "custom_dataset": lambda **_: data,
            }
        )
        made.set_fewshot_seed(0)
        if task.output_type == "multiple_choice":
            _check_targets(made, rows)
        done = lm_eval.evaluate(lm, {NAME: made}, bootstrap_iters=0, log_samples=True)
    except (TemplateError, KeyError, IndexError, TypeError, ValueError) as error:
        raise TaskError(f"lm-eval cannot run it: {type(error).__name__}: {excerpt(str(error))}") from error
    samples = sorted(done["samples"][NAME], key=lambda sample: sample["doc_id"])
    if [sample["doc_id"] for sample in samples] != list(range(len(rows))):
        raise TaskError(f"lm-eval measured {len(samples)} of {len(rows)} rows")
    return [
        Measured(row, float(sample[task.metric]), str(sample["target"]), excerpt(str(sample["filtered_resps"]), 500))
        for row, sample in zip(rows, samples, strict=True)
    ]
