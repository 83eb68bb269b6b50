"""Rows that each must pass, whatever the averages say: their rule, and the reasons for and against. Pure.

A reviewer turns a regression into such a row with `llmops must-pass`. Reading the rows of a report belongs in
`llmops_assets.delivery.row_evidence`.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from llmops_assets.domain.formatting import figure, quoted
from llmops_assets.domain.models import Frozen, Strict

NAMED = 5
"""Failing rows that a verdict shows with their answers."""


class MustPassRule(Strict):
    """When a row passes: exactly one of `answer` and `metric`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["answer"]},
                {"required": ["metric"], "anyOf": [{"required": ["at_least"]}, {"required": ["at_most"]}]},
            ]
        }
    )

    answer: Literal["exact", "contains"] | None = Field(
        default=None,
        description="The answer equals the row's output, or contains it, apart from outer white space.",
    )
    metric: str | None = Field(default=None, description="A metric of `evaluation.metrics` that gives a value per row.")
    at_least: float | None = Field(default=None, description="Lower bound of that metric, for each row.")
    at_most: float | None = Field(default=None, description="Upper bound of that metric, for each row.")

    @model_validator(mode="after")
    def _one_rule(self) -> "MustPassRule":
        if (self.answer is None) == (self.metric is None):
            raise ValueError("needs either `answer: exact` (or contains), or a `metric` with at_least or at_most")
        if (self.metric is None) != (self.at_least is None and self.at_most is None):
            raise ValueError("at_least and at_most need `metric`, and `metric` needs one of them")
        return self

    def against(self, row: "AnsweredRow") -> str | None:
        """Why a row does not pass; None if it does."""
        if self.answer is not None:
            mine, expected = row.prediction.strip(), row.reference.strip()
            passes = mine == expected if self.answer == "exact" else bool(expected) and expected in mine
            if passes:
                return None
            return "the answer is not the expected one" if self.answer == "exact" else "the answer does not contain it"
        value = row.scores.get(str(self.metric))
        if value is None:
            return f"{self.metric} has no value for this row"
        if self.at_least is not None and not value >= self.at_least:
            return f"{self.metric} {figure(value)}, minimum {figure(self.at_least)}"
        if self.at_most is not None and not value <= self.at_most:
            return f"{self.metric} {figure(value)}, limit {figure(self.at_most)}"
        return None

    def __str__(self) -> str:
        if self.answer is not None:
            return f"answer {self.answer}"
        bounds = [f"at least {self.at_least:g}"] if self.at_least is not None else []
        bounds += [f"at most {self.at_most:g}"] if self.at_most is not None else []
        return f"{self.metric} {' and '.join(bounds)}"


class MustPassPolicy(Frozen):
    """What llmops.yaml states about must-pass rows."""

    rule: MustPassRule
    file: str
    version: str = Field(description="Version of the rows.")


class AnsweredRow(Frozen):
    """A must-pass row with the answer of one model."""

    row: int = Field(description="Its number in the file, from 1.")
    digest: str
    input: str
    reference: str
    prediction: str
    scores: dict[str, float | None] = Field(default_factory=dict)


def judge_rows(
    policy: MustPassPolicy, rows: Sequence[AnsweredRow] | None, champion: Sequence[AnsweredRow] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(reasons against, reasons for).

    Args:
        rows: of the candidate's report; None: it has none, which fails.
        champion: the champion's answers, to show beside.
    """
    if not rows:
        return (f"must-pass rows of {policy.file}: the report has no answers to them",), ()
    failing = [(row, why) for row in rows if (why := policy.rule.against(row)) is not None]
    if not failing:
        return (), (f"all {len(rows)} must-pass rows of {policy.file} pass ({policy.rule})",)
    before = {row.digest: row for row in champion}
    texts = [_failure(policy, row, why, before.get(row.digest)) for row, why in failing[:NAMED]]
    if more := [str(row.row) for row, _ in failing[NAMED:]]:
        texts.append(f"must-pass rows {', '.join(more[:20])} of {policy.file} fail too ({len(failing)} of {len(rows)})")
    return tuple(texts), ()


def _failure(policy: MustPassPolicy, row: AnsweredRow, why: str, champion: AnsweredRow | None) -> str:
    said = (
        f"must-pass row {row.row} of {policy.file}: {why}; asked {quoted(row.input)}, answered {quoted(row.prediction)}"
    )
    said += f", expected {quoted(row.reference)}"
    return f"{said}; the champion answered {quoted(champion.prediction)}" if champion else said


def loosened_must_pass(before: MustPassPolicy | None, after: MustPassPolicy | None) -> Iterator[str]:
    """What the second policy asks for less. Dropped rows are found by their digests: `dropped_rows`."""
    if before is None:
        return
    if after is None:
        yield f"must-pass rows dropped: all of {before.file}"
        return
    old, new = before.rule, after.rule
    if (old.answer, old.metric) != (new.answer, new.metric):
        if (old.answer, new.answer) != ("contains", "exact"):
            yield f"must-pass rule changed: {old} → {new}"
        return
    lower = old.at_least is not None and (new.at_least is None or new.at_least < old.at_least)
    higher = old.at_most is not None and (new.at_most is None or new.at_most > old.at_most)
    if lower or higher:
        yield f"must-pass rule weakened: {old} → {new}"


def dropped_rows(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """What the rows of the second version lack, from the digests of both."""
    if lost := set(before) - set(after):
        yield f"must-pass rows dropped or changed: {len(lost)} of {len(set(before))}"
