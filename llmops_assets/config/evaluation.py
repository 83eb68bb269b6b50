"""The key `evaluation` of `llmops.yaml`: what is measured, and on which rows."""

from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    field_validator,
    model_validator,
)

from llmops_assets.config.metrics import AnyMetric, name_of
from llmops_assets.config.project_paths import ProjectPath
from llmops_assets.domain.evaluated_rows import OWN_COLUMNS
from llmops_assets.domain.models import Strict, WrongAt
from llmops_assets.domain.must_pass import MustPassRule


def _is_column(name: str) -> str:
    if name in OWN_COLUMNS:
        raise ValueError(f"{name} is the question or the answer; name another column of the test rows")
    return name


Column = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_is_column)]


class MustPass(MustPassRule):
    """Rows that each must pass, on the checkpoint and as served, whatever the averages say."""

    file: ProjectPath = Field(description="Rows (.jsonl or .parquet), DVC-tracked; none of them may occur in train.")

    @property
    def rule(self) -> MustPassRule:
        return MustPassRule.model_validate(self.model_dump(exclude={"file"}))


class Evaluation(Strict):
    metrics: tuple[AnyMetric, ...] = Field(
        default=("perplexity", "rougeL"),
        description="What is measured: metrics of the catalog, or your own functions.",
    )
    max_rows: int | None = Field(default=None, ge=1, description="The first rows of test to use; None: all.")
    max_new_tokens: int = Field(default=32, ge=1, description="Maximum tokens of an answer.")
    slices: tuple[Column, ...] = Field(
        default=(),
        max_length=8,
        description="Columns of the test rows by whose values the report of a verdict shows every metric: the 12 "
        "values with the most rows, those of fewer than 20 rows without figures. It only shows: `per` of a gate "
        "judges. A change computes nothing again.",
    )

    @field_validator("slices")
    @classmethod
    def _columns_differ(cls, slices: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in slices if slices.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} is listed twice; name each column once")
        return slices

    must_pass: MustPass | None = Field(
        default=None,
        description="Rows that each must pass: one that fails fails the verdict. `llmops must-pass` adds one.",
    )

    @model_validator(mode="after")
    def _must_pass_is_measured(self) -> "Evaluation":
        metric = self.must_pass.metric if self.must_pass else None
        if metric is not None and metric not in self.names:
            raise WrongAt(f"{metric!r} is not in evaluation.metrics ({', '.join(self.names)})", "must_pass", "metric")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> "Evaluation":
        if len(set(self.names)) != len(self.names):
            raise WrongAt("two metrics have the same name", "metrics")
        return self

    @property
    def names(self) -> list[str]:
        return [name_of(m) for m in self.metrics]
