"""The forms of an entry of `evaluation.metrics`: a name, a metric of the catalog with options, or the project's own."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from llmops_assets import catalog
from llmops_assets.config.ignore_patterns import check_pattern
from llmops_assets.config.part_names import NameOf
from llmops_assets.config.project_paths import ProjectPath
from llmops_assets.domain.models import Strict, WrongAt
from llmops_assets.domain.patterns import compiled

SERVED = "served"
"""Context of validation: a file that an earlier version of this code has released, and nobody can edit any more."""
RETIRED: Mapping[str, str] = {
    "toxicity": "what it measured until now is called `profanity`: write that, and in gates too; or configure a "
    "classifier of your own as {metric: toxicity, model: FOLDER, label: NAME}",
}
"""A metric's name alone, which once had a meaning → the remedy."""


class CustomMetric(Strict):
    """A metric that the project defines."""

    name: str = Field(pattern=r"^\w+$", description="The metric's name in gates and reports.")
    function: str = Field(
        pattern=r"^[\w./-]+\.py:\w+$", description="file.py:function, (prediction: str, reference: str) -> float"
    )
    higher_is_better: bool = Field(default=True, description="Direction that no_worse_than uses.")
    files: tuple[Annotated[str, AfterValidator(check_pattern)], ...] = Field(
        default=(),
        description="Further files in Git that the function reads, or imports by a computed name, as patterns of "
        ".gitignore. It sees these, its own file and the files of the project that this imports; nothing else.",
    )

    @property
    def file(self) -> str:
        return self.function.split(":")[0]


class ListedMetric(Strict):
    """A metric of the catalog with options; the catalog says which options a metric has."""

    metric: Annotated[str, NameOf(catalog.METRICS)] = Field(description="Its name in the catalog.")
    name: str = Field(
        default="", pattern=r"^\w*$", description="Its name in gates and reports; absent: as in the catalog."
    )
    model: ProjectPath | None = Field(
        default=None,
        description="Folder of the project with the metric's own model, DVC-tracked: config.json, safetensors and "
        "tokenizer.",
    )
    label: str | None = Field(default=None, min_length=1, description="Label of that model to measure.")
    file: ProjectPath | None = Field(default=None, description="A text file of the project in Git: see the catalog.")
    pattern: str | None = Field(
        default=None,
        description="Regular expression in Python's syntax, searched in the answer; no lookarounds, no backreferences.",
    )
    judge: str | None = Field(
        default=None, min_length=1, description="Name of an LLM under `judges` in the settings of the location."
    )
    labels: ProjectPath | None = Field(
        default=None,
        description="JSONL file of the project, in Git or DVC, with people's verdicts: {input, answer_a, answer_b, "
        "label: a | b | tie}, and context if the rows have one. The judge's agreement with them is reported.",
    )
    rows: ProjectPath | None = Field(
        default=None,
        description="JSONL file of the project, in Git or DVC, with the rows of a metric that has its own.",
    )
    min_agreement: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Cohen's kappa with `labels` below which the judge's value is no evidence: gates on it fail.",
    )
    max_unreadable: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the rows without a readable verdict above which the value is no evidence; absent: 0.05.",
    )
    language: str | None = Field(default=None, pattern=r"^[a-z]{2,3}$", description="ISO 639 code, such as en or de.")
    threshold: float | None = Field(default=None, gt=0, lt=1, description="Similarity from which a sentence counts.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compiled(pattern)
        return pattern

    @model_validator(mode="after")
    def _options_fit(self) -> "ListedMetric":
        known = catalog.METRICS[self.metric].options
        for key in self.options:
            if key not in known:
                has = f"it has {', '.join(known)}" if known else "it has no options; name it alone"
                raise WrongAt(f"{self.metric} has no such option; {has}", key)
        if missing := [key for key, required in known.items() if required and key not in self.options]:
            raise WrongAt(f"{self.metric} needs it; add it", missing[0])
        if self.min_agreement is not None and self.labels is None:
            raise WrongAt("agreement is measured with labels; add labels: FILE, or leave this out", "min_agreement")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The options that are set."""
        return self.model_dump(mode="json", exclude={"metric", "name"}, exclude_none=True)


def _needs(part: catalog.MetricPart) -> list[str]:
    return [key for key, required in part.options.items() if required]


def _known_alone(name: str, info: ValidationInfo) -> str:
    """The name of a metric that needs no options."""
    needs = _needs(catalog.METRICS[name])
    if info.context == SERVED:
        return name
    if name in RETIRED:
        raise ValueError(f"{name} alone is no metric any more; {RETIRED[name]}")
    if needs:
        options = ", ".join(f"{key}: …" for key in needs)
        raise ValueError(f"{name} needs options; write it as {{metric: {name}, {options}}}")
    return name


def _kind_of_metric(value: Any) -> str:
    if isinstance(value, ListedMetric) or (isinstance(value, dict) and "metric" in value):
        return "ListedMetric"
    return "CustomMetric" if isinstance(value, dict | CustomMetric) else "str"


AnyMetric = Annotated[
    Annotated[
        str,
        NameOf(catalog.METRICS, ", or your own as {name, function: 'file.py:function'}", lambda part: not _needs(part)),
        AfterValidator(_known_alone),
        Tag("str"),
    ]
    | Annotated[ListedMetric, Tag("ListedMetric")]
    | Annotated[CustomMetric, Tag("CustomMetric")],
    Discriminator(_kind_of_metric),
]


def name_of(metric: str | ListedMetric | CustomMetric) -> str:
    """The name in gates and reports."""
    if isinstance(metric, str):
        return metric
    return metric.name or (metric.metric if isinstance(metric, ListedMetric) else "")


def part_of(metric: str | ListedMetric | CustomMetric) -> catalog.MetricPart | None:
    """Its part of the catalog; None if it is the project's own."""
    if isinstance(metric, CustomMetric):
        return None
    return catalog.METRICS[metric if isinstance(metric, str) else metric.metric]
