"""The schema of `llmops.yaml`, and errors about it that say file, line, key and remedy.

Reading the file from Git belongs in `resources.project_source`; what a stage reads of it in
`llmops_assets.domain.chain`.
"""

import difflib
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from llmops_assets.domain.gate import Gate
from llmops_assets.domain.models import Strict
from llmops_assets.domain.rollout import Duration, RolloutPolicy, Share

CONFIG_FILE = "llmops.yaml"
BUILTIN_METRICS = {"perplexity": False, "bleu": True, "rouge1": True, "rouge2": True, "rougeL": True, "toxicity": False}
"""The metrics that we bring, and whether higher is better."""


class ConfigError(Exception):
    """Something that a person wrote is wrong. Each problem says what, where and how to mend it."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


def _relative(value: object) -> object:
    if isinstance(value, str):
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or not value.strip():
            raise ValueError(f"{value!r} must be a path within the project, such as data/train.jsonl")
        return str(path)
    return value


ProjectPath = Annotated[
    str, BeforeValidator(_relative), WithJsonSchema({"type": "string", "pattern": r"^(?!/)(?!(.*/)?\.\.(/|$)).*\S"})
]


class BaseModelPath(Strict):
    """A folder of the project, tracked by DVC."""

    path: ProjectPath = Field(description="A folder of the project with config.json, safetensors and a tokenizer.")


class BaseModelHub(Strict):
    """A model of the Hugging Face hub, at one commit."""

    hub: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="org/name on the Hugging Face hub.")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", description="Commit SHA; a branch would move under our feet.")


def _kind_of_base(value: Any) -> str:
    """Which of the two is meant, so that an error speaks of that one alone."""
    is_hub = isinstance(value, BaseModelHub) or (isinstance(value, dict) and {"hub", "revision"} & set(value))
    return "BaseModelHub" if is_hub else "BaseModelPath"


class Model(Strict):
    base: Annotated[
        Annotated[BaseModelPath, Tag("BaseModelPath")] | Annotated[BaseModelHub, Tag("BaseModelHub")],
        Discriminator(_kind_of_base),
    ] = Field(description="A folder of the project, or a commit on the Hugging Face hub.")


class Data(Strict):
    test: ProjectPath = Field(description="Held-out rows (.jsonl or .parquet), DVC-tracked.")
    train: ProjectPath | None = Field(default=None, description="Training rows; not needed with training.method none.")
    validation: ProjectPath | None = Field(default=None, description="Absent: a seeded share of train.")
    validation_share: Share = Field(default=0.05, description="Share of train that is held out for validation.")
    seed: int = Field(default=7, description="Seed of that share.")


class Lora(Strict):
    """Low-rank adaptation, Hu et al. 2021 (arXiv:2106.09685)."""

    r: int = Field(default=16, ge=1, description="Rank.")
    alpha: int = Field(default=32, ge=1, description="Scale; the update is multiplied by alpha / r.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of activations dropped while training.")
    target_modules: str | tuple[str, ...] = Field(default="all-linear", description="As in peft.LoraConfig.")


class Training(Strict):
    method: Literal["lora", "full", "none"] = Field(default="lora", description="none: base model and prompt only.")
    prompt: ProjectPath | None = Field(
        default=None, description="Template used in training; absent: `prompt`, and then a change of prompt retrains."
    )
    lora: Lora = Field(default=Lora(), description="Read with method lora.")
    learning_rate: float = Field(default=2e-4, gt=0, description="Peak learning rate of AdamW.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="How the learning rate goes on after the warm-up."
    )
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1, description="Share of the steps that warm up.")
    weight_decay: float = Field(default=0.0, ge=0, description="Of AdamW.")
    batch_size: int = Field(default=8, ge=1, description="Rows per step and device.")
    gradient_accumulation: int = Field(default=1, ge=1, description="Batches per optimizer step.")
    epochs: float = Field(default=1.0, gt=0, description="Passes over the training rows; max_steps overrides it.")
    max_steps: int | None = Field(default=None, ge=1, description="Optimizer steps.")
    max_length: int | None = Field(default=None, ge=8, description="Tokens of a row; longer ones are cut.")
    seed: int = Field(default=7, description="Seed of order, initialization and dropout.")


class CustomMetric(Strict):
    """A metric of the project's own."""

    name: str = Field(pattern=r"^\w+$", description="As gates and reports call it.")
    function: str = Field(
        pattern=r"^[\w./-]+\.py:\w+$", description="file.py:function, (prediction: str, reference: str) -> float"
    )
    higher_is_better: bool = Field(default=True, description="Decides what no_worse_than means.")

    @property
    def file(self) -> str:
        return self.function.split(":")[0]


def _kind_of_metric(value: Any) -> str:
    return "CustomMetric" if isinstance(value, dict | CustomMetric) else "str"


AnyMetric = Annotated[
    Annotated[str, Tag("str"), WithJsonSchema({"type": "string", "enum": list(BUILTIN_METRICS)})]
    | Annotated[CustomMetric, Tag("CustomMetric")],
    Discriminator(_kind_of_metric),
]


class Evaluation(Strict):
    metrics: tuple[AnyMetric, ...] = Field(
        default=("perplexity", "rougeL"), description="What is measured: metrics that we bring, or your own functions."
    )
    max_rows: int | None = Field(default=None, ge=1, description="Rows of test that are asked; None: all.")
    max_new_tokens: int = Field(default=32, ge=1, description="Tokens of an answer.")

    @model_validator(mode="after")
    def _known(self) -> "Evaluation":
        for metric in self.metrics:
            if isinstance(metric, str) and metric not in BUILTIN_METRICS:
                raise ValueError(
                    f"unknown metric {metric!r}; known: {', '.join(BUILTIN_METRICS)}, or your own as "
                    "{name, function: 'file.py:function'}"
                )
        if len(set(self.names)) != len(self.names):
            raise ValueError("two metrics have the same name")
        return self

    @property
    def names(self) -> list[str]:
        return [m if isinstance(m, str) else m.name for m in self.metrics]


class Quantization(Strict):
    backend: Literal["gguf"] = Field(default="gguf", description="The format that the engine loads.")
    scheme: Literal["q8_0", "f16", "bf16"] = Field(default="q8_0", description="Eight bits a weight, or sixteen.")


class Serving(Strict):
    """How the engine is run. Part of the release: a change is a release like any other."""

    parallel: int = Field(default=8, ge=1, le=256, description="Requests answered at once.")
    context_length: int | None = Field(default=None, ge=64, description="Tokens per request; None: up to 2048.")
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens of an answer to a client that does not say how many; None: until it ends or the context "
        "is full.",
    )


class Approval(Strict):
    required: bool | None = Field(
        default=None, description="Whether a person must approve each release; None: if approvers are named."
    )
    approvers: tuple[str, ...] = Field(
        default=(), description="Who may approve, by e-mail; empty: everyone but the authors of the change."
    )
    expires_after: Duration = Field(
        default=7 * 86400.0, gt=0, description="How long an approval counts that did not lead to a release: 7d."
    )

    @property
    def needed(self) -> bool:
        return bool(self.approvers) if self.required is None else self.required


class Deployment(Strict):
    engine: Literal["llama.cpp"] = Field(default="llama.cpp", description="The server behind the endpoint.")
    serving: Serving = Field(default=Serving(), description="How the engine is run.")
    smoke_tests: ProjectPath | None = Field(default=None, description="List of {name, input, expect}.")
    approval: Approval = Field(default=Approval(), description="Whether a person must say yes before production.")
    rollout: RolloutPolicy = Field(default=RolloutPolicy(), description="How traffic moves to a new release.")


class Ci(Strict):
    ignore: tuple[str, ...] = Field(default=("docs/**", "*.md", "LICENSE"), description="Globs that no check reads.")
    ruff: bool = Field(default=True, description="Lint the project's Python.")
    tests: bool = Field(default=True, description="Run the project's pytest, if it has tests.")


class ProjectConfig(Strict):
    """`llmops.yaml`. Everything has a default but name, model and data.test."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$", description="The project's name, as in the settings.")
    model: Model = Field(description="What is trained, or served as it is.")
    data: Data = Field(description="Rows of {input, output} or {messages}.")
    prompt: ProjectPath | None = Field(
        default=None, description="Template around the user turn; absent: the bare input."
    )
    training: Training = Field(default=Training(), description="How the base model is trained.")
    evaluation: Evaluation = Field(default=Evaluation(), description="What is measured, and on how much.")
    gates: tuple[Gate, ...] = Field(default=(), description="What must hold before a model goes on.")
    quantization: Quantization = Field(default=Quantization(), description="How the trained model is made smaller.")
    deployment: Deployment = Field(default=Deployment(), description="How it is served, tested and rolled out.")
    ci: Ci = Field(default=Ci(), description="Checks of the project's own code.")
    on_newer: Literal["wait", "cancel"] = Field(
        default="wait",
        description="What this commit does to a run of an older one that is still at work: wait for its end, or cancel "
        "it and start at once.",
    )

    @model_validator(mode="after")
    def _holds_together(self) -> "ProjectConfig":
        if self.training.method != "none" and self.data.train is None:
            raise ValueError("data.train is missing; name the training rows, or set training.method: none")
        for gate in self.gates:
            if gate.metric not in self.evaluation.names:
                raise ValueError(
                    f"a gate speaks of {gate.metric!r}, which evaluation.metrics does not measure "
                    f"(measured: {', '.join(self.evaluation.names)}); add it there or mend the gate"
                )
        return self

    @property
    def training_prompt(self) -> str | None:
        return self.training.prompt or self.prompt


class Expectation(Strict):
    status: int = Field(default=200, description="HTTP status of the answer.")
    contains: str | None = Field(default=None, description="Text that the answer must hold.")
    matches: str | None = Field(default=None, description="Regular expression, searched in the answer.")
    max_latency: Duration | None = Field(default=None, description="For example 5s.")

    @field_validator("matches")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern


class SmokeTest(Strict):
    name: str = Field(description="What it shows, in words.")
    input: str = Field(description="What a client sends, bare.")
    expect: Expectation = Field(default=Expectation(), description="What must come back.")


class SmokeTests(Strict):
    """The file that deployment.smoke_tests names: a list, or a mapping with `tests`."""

    tests: tuple[SmokeTest, ...] = Field(min_length=1)


M = TypeVar("M", bound=BaseModel)


def parse_config(text: str, where: str = CONFIG_FILE) -> ProjectConfig:
    """A project's configuration from its YAML.

    Raises:
        ConfigError: every problem, each with file, line, key and remedy.
    """
    return validate_yaml(ProjectConfig, text, where)


def parse_smoke_tests(text: str, where: str) -> SmokeTests:
    """The smoke tests from their YAML.

    Raises:
        ConfigError: as `parse_config`.
    """
    return validate_yaml(SmokeTests, text, where, wrap="tests")


def validate_yaml(model: type[M], text: str, where: str, wrap: str | None = None) -> M:
    """Validates YAML against a model; `wrap` puts a top-level list under that key first.

    Raises:
        ConfigError: every problem, each with file, line, key and remedy.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError) as error:
        # Some scalars that only look like dates or tagged values fail outside of PyYAML's own errors.
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError([f"{where}{line}: not valid YAML: {getattr(error, 'problem', None) or error}"]) from error
    if twice := list(_keys_given_twice(node, where)):
        raise ConfigError(twice)
    prefix: tuple[str, ...] = ()
    if wrap and isinstance(value, list):
        value, prefix = {wrap: value}, (wrap,)
    if not isinstance(value, dict):
        raise ConfigError([f"{where}: it is {'empty' if value is None else 'not a mapping'}; expected keys and values"])
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors()
        meant = {(e["loc"][:-1], _meant(model, e)) for e in found if e["type"] == "extra_forbidden"}
        # A misspelt key is one problem, not also the missing one that was meant.
        told = [e for e in found if e["type"] != "missing" or (e["loc"][:-1], e["loc"][-1]) not in meant]
        # Items that are wrong do not count as items: a list of them is not also too short.
        told = [
            e
            for e in told
            if e["type"] != "too_short" or [o["loc"][: len(e["loc"])] for o in told].count(e["loc"]) == 1
        ]
        problems = [_problem(model, e, node, where, prefix) for e in told]
        raise ConfigError(list(dict.fromkeys(problems))) from error


def _keys_given_twice(node: yaml.Node | None, where: str) -> Iterator[str]:
    """YAML's last one would win, silently."""
    left, seen = [node], set()
    while left:
        node = left.pop()
        if node is None or id(node) in seen:
            continue  # an alias stands for the same node again
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                left.append(value)
                line = key.start_mark.line + 1
                name = key.value if isinstance(key, yaml.ScalarNode) else None
                if name is None or name == "<<":
                    continue
                if name in lines:
                    yield f"{where}:{line}: {name}: given before, on line {lines[name]}; keep one of them"
                lines.setdefault(name, line)


def _meant(model: type[BaseModel], error: ErrorDetails) -> str | None:
    """The key that an unknown one is a misspelling of, if there is one."""
    *parent, key = error["loc"]
    known = [k for k in _known_keys(model, parent) if k != str(key)]
    return next(iter(difflib.get_close_matches(str(key), known, n=1)), None)


def _problem(
    model: type[BaseModel], error: ErrorDetails, node: yaml.Node | None, where: str, skip: tuple[str, ...]
) -> str:
    loc = list(error["loc"][len(skip) :])
    path, line = _locate(node, loc)
    key = ".".join(str(p) for p in path)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        close = _meant(model, error)
        known = [k for k in _known_keys(model, list(error["loc"][:-1])) if k != str(path[-1])]
        message = "unknown key; " + (f"did you mean {close!r}?" if close else f"known here: {', '.join(known)}")
    elif error["type"] == "missing":
        message = "is missing; add it"
    elif error["type"] == "too_short":
        message = "it is empty; add at least one"
    elif error["type"] == "model_type":
        known = _known_keys(model, list(error["loc"]))
        message = f"expected a mapping with {', '.join(known)}, not {error['input']!r}"
    elif error["type"] == "tuple_type":
        message = f"expected a list, not {error['input']!r}"
    elif "input" in error and not isinstance(error["input"], dict | list | tuple) and error["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}, not {error['input']!r}"
    return f"{where}{f':{line}' if line else ''}: {key + ': ' if key else ''}{message}"


def _locate(node: yaml.Node | None, loc: list[int | str]) -> tuple[list[int | str], int | None]:
    """The part of `loc` that is really in the file (pydantic adds names of union members), and its line."""
    path: list[int | str] = []
    line = node.start_mark.line + 1 if node is not None else None
    for depth, part in enumerate(loc):
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                if depth == len(loc) - 1:
                    path.append(part)  # a missing key: its parent's line
                continue
            line, node = found[0].start_mark.line + 1, found[1]
            path.append(part)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            path.append(part)
    return path, line


def _known_keys(model: type[BaseModel], path: list[int | str]) -> list[str]:
    """The keys that are allowed at a path, following models through lists and into the named member of a union."""
    models = [model]
    for part in path:
        if isinstance(part, int):
            continue
        if named := [m for m in models if m.__name__ == part]:
            models = named
            continue
        annotations = [m.model_fields[str(part)].annotation for m in models if str(part) in m.model_fields]
        models = [m for a in annotations for m in _models_in(a)]
    return sorted({name for m in models for name in m.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]
