"""What people write about a gate: its conditions, margin, baseline and confidence. `domain.gate` judges."""

import math
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema, model_validator

from llmops_assets.domain.models import Frozen, Strict, WrongAt, number_or_text
from llmops_assets.domain.rollout import Share

CONFIDENCE = 0.95
"""Of a comparison whose gate names none."""
Of = Literal["checkpoint", "served"]
SMALLEST_SLICE = 20
"""Rows. A gate per slice does not judge a smaller one: a few rows show nothing either way."""


class Margin(Frozen):
    """A tolerance: absolute, in the metric's own unit, or relative to the reference."""

    value: float = Field(ge=0)
    relative: bool = False

    def of(self, reference: float) -> float:
        return abs(reference) * self.value if self.relative else self.value

    def of_any(self, references: Any) -> Any:
        """The same of an array of references."""
        return abs(references) * self.value if self.relative else self.value

    def __str__(self) -> str:
        return f"{self.value * 100:g}%" if self.relative else f"{self.value:g}"


class Gate(Strict):
    """Conditions on one metric: at least one of at_least, at_most and no_worse_than."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("at_least", "at_most", "no_worse_than")]}
    )

    metric: str = Field(
        description="A metric of `evaluation.metrics`; of the served model also its size, speed and memory: "
        "size_mb, tokens_per_s, first_token_p50, latency_p50, latency_p95 (seconds, with 8 clients), memory_mb, "
        "gpu_memory_mb. Speeds and memory are compared within one hardware class only."
    )
    of: Of = Field(default="checkpoint", description="Measured on the trained checkpoint, or as served (quantized).")
    at_least: float | None = Field(default=None, description="Lower bound, in the metric's unit.")
    at_most: float | None = Field(default=None, description="Upper bound, in the metric's unit.")
    no_worse_than: Literal["champion", "unquantized", "baseline"] | None = Field(
        default=None,
        description="Compare with the release in production, with the checkpoint before quantization, or with the "
        "release that `baseline` names.",
    )
    baseline: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{7,64}$",
        description="A fixed release to compare with: its digest, or the commit that made it, at least 7 characters. "
        "Many small losses, each within the margin against a moving champion, add up; against a baseline they do not.",
    )
    margin: Annotated[
        float | str, WithJsonSchema(number_or_text("in the metric's unit", r" *\d+(\.\d+)? *%? *", "2%", minimum=0))
    ] = Field(default=0.0, description="Tolerance: in the metric's unit, or a percentage such as '2%'.")

    per: str | None = Field(
        default=None,
        min_length=1,
        description="A column of the test rows, or of the metric's own `rows`: each of its values is judged by "
        "itself. A slice of fewer than 20 rows is not judged; if all are smaller, the gate is undecided.",
    )
    confidence: Share | None = Field(
        default=None,
        ge=0.5,
        lt=1,
        description="How sure a verdict must be, such as 95%. A comparison passes if a loss above the margin is ruled "
        "out with this confidence, fails if it is shown, and is undecided otherwise; 95% if absent. With it, at_least "
        "and at_most are judged in the same way; without it, they are judged on the measured value.",
    )

    @model_validator(mode="after")
    def _has_a_condition(self) -> "Gate":
        if self.at_least is None and self.at_most is None and self.no_worse_than is None:
            raise ValueError("a gate needs at_least, at_most or no_worse_than")
        if self.no_worse_than == "unquantized" and self.of != "served":
            raise WrongAt("unquantized needs `of: served`", "no_worse_than")
        if (self.no_worse_than == "baseline") != (self.baseline is not None):
            raise WrongAt(
                "baseline needs both `no_worse_than: baseline` and `baseline: RELEASE`, the digest of a release or the "
                "commit that made it (`llmops status` shows them)",
                "baseline" if self.baseline is not None else "no_worse_than",
            )
        self.tolerance()
        return self

    @property
    def certainty(self) -> float:
        """The confidence of a comparison."""
        return CONFIDENCE if self.confidence is None else self.confidence

    @property
    def against(self) -> str:
        """What it compares with, as text."""
        return f"baseline {self.baseline[:12]}" if self.baseline else str(self.no_worse_than)

    def tolerance(self) -> Margin:
        """The parsed margin.

        Raises:
            ValueError: it is neither a number nor a percentage, or it is negative.
        """
        if isinstance(self.margin, str):
            text = self.margin.strip()
            try:
                share = float(text.removesuffix("%"))
            except ValueError as error:
                raise WrongAt(f"{self.margin!r} is neither a number nor a percentage such as '2%'", "margin") from error
            if not 0 <= share < math.inf:
                raise WrongAt(f"{self.margin!r} must be finite and not negative", "margin")
            return Margin(value=share / 100 if text.endswith("%") else share, relative=text.endswith("%"))
        if self.margin < 0:
            raise WrongAt(f"{self.margin:g} must not be negative", "margin")
        return Margin(value=self.margin)

    def __str__(self) -> str:
        parts = []
        if self.at_least is not None:
            parts.append(f"at least {self.at_least:g}")
        if self.at_most is not None:
            parts.append(f"at most {self.at_most:g}")
        if self.no_worse_than:
            parts.append(f"no worse than {self.against} (margin {self.tolerance()})")
        sure = f" with {self.confidence:.4g} confidence" if self.confidence is not None else ""
        per = f" per {self.per}" if self.per else ""
        return f"{self.metric} of {self.of}{per}: {' and '.join(parts)}{sure}"
