"""Evaluates gates: evidence in, a verdict with all its reasons out. Unreadable evidence fails.

Also holds the champion rules. `llmops_assets.delivery.gate_evidence` loads the evidence; `llmops_assets.stage` handles
rejections.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, WithJsonSchema, model_validator

from llmops_assets.domain.formatting import figure
from llmops_assets.domain.keys import short
from llmops_assets.domain.measurement import ALIKE, differences
from llmops_assets.domain.models import Frozen, Strict, WrongAt, number_or_text
from llmops_assets.domain.records import Check, Measured

Of = Literal["checkpoint", "served"]


class Margin(Frozen):
    """A tolerance: absolute, in the metric's own unit, or relative to the reference."""

    value: float = Field(ge=0)
    relative: bool = False

    def of(self, reference: float) -> float:
        return abs(reference) * self.value if self.relative else self.value

    def __str__(self) -> str:
        return f"{self.value * 100:g}%" if self.relative else f"{self.value:g}"


class Gate(Strict):
    """Conditions on one metric: at least one of at_least, at_most and no_worse_than."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("at_least", "at_most", "no_worse_than")]}
    )

    metric: str = Field(description="A metric of `evaluation.metrics`.")
    of: Of = Field(default="checkpoint", description="Measured on the trained checkpoint, or as served (quantized).")
    at_least: float | None = Field(default=None, description="Lower bound, in the metric's unit.")
    at_most: float | None = Field(default=None, description="Upper bound, in the metric's unit.")
    no_worse_than: Literal["champion", "unquantized"] | None = Field(
        default=None, description="Compare with the release in production, or with the checkpoint before quantization."
    )
    margin: Annotated[
        float | str, WithJsonSchema(number_or_text("in the metric's unit", r" *\d+(\.\d+)? *%? *", "2%", minimum=0))
    ] = Field(default=0.0, description="Tolerance: in the metric's unit, or a percentage such as '2%'.")

    @model_validator(mode="after")
    def _has_a_condition(self) -> "Gate":
        if self.at_least is None and self.at_most is None and self.no_worse_than is None:
            raise ValueError("a gate needs at_least, at_most or no_worse_than")
        if self.no_worse_than == "unquantized" and self.of != "served":
            raise WrongAt("unquantized needs `of: served`", "no_worse_than")
        self.tolerance()
        return self

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
            parts.append(f"no worse than {self.no_worse_than} (margin {self.tolerance()})")
        return f"{self.metric} of {self.of}: {' and '.join(parts)}"


class Compared(Frozen):
    """A figure of the evaluated report, and those that it was compared with; None if there is none to compare with."""

    metric: str
    value: float | None = Field(description="None if it is not finite; JSON has no such number.")
    higher_is_better: bool
    champion: float | None = None
    unquantized: float | None = None


class Verdict(Frozen):
    """The outcome of evaluating one report at one moment, with every reason for and against."""

    subject: str = Field(description="What was evaluated, as text.")
    report: str | None = Field(description="Digest of the report; None if there was none.")
    champion: str | None = Field(description="Release digest of the champion at that moment.")
    failures: tuple[str, ...] = ()
    reasons: tuple[str, ...] = Field(default=(), description="Conditions that held.")
    skipped: tuple[str, ...] = Field(
        default=(),
        description="Conditions that did not apply, and why. Older verdicts have them in reasons.",
    )
    figures: tuple[Compared, ...] = Field(default=(), description="The report's figures beside the champion's.")
    check: str = Field(default="", description="The asset check that shows it: 'stage:check'. Empty: none does.")
    loosened: tuple[str, ...] = Field(
        default=(), description="What the candidate's policy asks for less than the champion's."
    )

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def text(self) -> str:
        """All reasons on one line: the failures if any, otherwise what held."""
        warnings = (f"loosened since the champion: {text}" for text in self.loosened)
        return "; ".join(self.failures or (*self.reasons, *self.skipped, *warnings)) or "no gate applies"

    def markdown(self) -> str:
        signs = {"❌": self.failures, "✅": self.reasons, "➖": self.skipped}
        signs["⚠️ loosened since the champion:"] = self.loosened
        lines = [f"- {sign} {text}" for sign, texts in signs.items() for text in texts]
        return "\n".join(lines) or "- no gate applies"


def combined(subject: str, report: str | None, verdicts: Mapping[str, Verdict]) -> Verdict:
    """One verdict with all reasons of several. Where more than one has a reason, each is named by its stage.

    Args:
        report: identifies what the verdicts are combined for.
        verdicts: stage → its verdict. A text that a later stage repeats is given once.
    """

    def texts(kind: str) -> tuple[str, ...]:
        found: dict[str, str] = {}
        for stage, verdict in verdicts.items():
            for text in getattr(verdict, kind):
                found.setdefault(text, stage)
        named = len(set(found.values())) > 1
        return tuple(f"{stage}: {text}" if named else text for text, stage in found.items())

    return Verdict(
        subject=subject,
        report=report,
        champion=next((v.champion for v in verdicts.values() if v.champion), None),
        failures=texts("failures"),
        reasons=texts("reasons"),
        skipped=texts("skipped"),
        loosened=tuple(dict.fromkeys(text for verdict in verdicts.values() for text in verdict.loosened)),
    )


class GateResult(Frozen):
    """The result of one condition of a gate."""

    outcome: Literal["passed", "failed", "skipped"]
    text: str


class NoReference(Frozen):
    """There is no value to compare with: this fails, unless the comparison does not apply now."""

    outcome: Literal["failed", "skipped"]
    why: str


class Champion(Frozen):
    """The release that production serves now, as gates need it."""

    release: str
    report: Measured | None = Field(description="Its report on the same rows and metrics; None if it has none.")


class Judged(Frozen):
    """The evidence about the candidate."""

    report: Measured | None
    unquantized: Measured | None = None
    champion: Champion | None = None
    has_served: bool = Field(
        default=False,
        description="This same release served production before: absolute gates only, so that a "
        "change with good metrics can be reverted in an incident.",
    )


def judge(subject: str, gates: Sequence[Gate], of: Of, evidence: Judged) -> Verdict:
    """Evaluates every gate that applies to `of`. Missing or unreadable evidence fails."""
    champion = evidence.champion
    base = {"subject": subject, "champion": champion.release if champion else None}
    if evidence.report is None:
        return Verdict(**base, report=None, failures=(f"no report on {subject}",))
    results = [r for gate in gates if gate.of == of for r in _results(gate, evidence, evidence.report)]

    def texts(outcome: str) -> tuple[str, ...]:
        return tuple(r.text for r in results if r.outcome == outcome)

    return Verdict(
        **base,
        report=evidence.report.digest,
        failures=texts("failed"),
        reasons=texts("passed"),
        skipped=texts("skipped"),
        figures=_figures(evidence.report, champion.report if champion else None, evidence.unquantized),
    )


def _figures(report: Measured, champion: Measured | None, unquantized: Measured | None) -> tuple[Compared, ...]:
    def finite(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    def beside(other: Measured | None, metric: str) -> float | None:
        comparable = other is not None and other.key != report.key and alike(report, other)
        return finite(other.value(metric)) if other is not None and comparable else None

    if champion is not None and differences(report, champion):
        champion = None  # its figures are not shown beside those that they cannot be compared with
    return tuple(
        Compared(
            metric=m.name,
            value=finite(m.value),
            higher_is_better=m.higher_is_better,
            champion=beside(champion, m.name),
            unquantized=beside(unquantized, m.name),
        )
        for m in report.metrics
    )


def alike(report: Measured, other: Measured) -> bool:
    """Whether two reports measure the same rows with the same metrics, so that their figures can be compared."""
    return (other.test_digest, other.metrics_digest) == (report.test_digest, report.metrics_digest)


def _results(gate: Gate, evidence: Judged, report: Measured) -> list[GateResult]:
    """One result for each condition of the gate, or a failure if the metric has no value."""
    metric = next((m for m in report.metrics if m.name == gate.metric), None)
    if metric is None:
        known = ", ".join(m.name for m in report.metrics) or "none"
        return [GateResult(outcome="failed", text=f"{gate.metric} was not measured (measured: {known})")]
    if not math.isfinite(metric.value):
        text = f"{gate.metric} is {metric.value}, not a finite number"
        return [GateResult(outcome="failed", text=text)]
    results: list[GateResult] = []

    def note(holds: bool, text: str) -> None:
        results.append(GateResult(outcome="passed" if holds else "failed", text=text))

    measured = f"{gate.metric} {figure(metric.value)}"
    if gate.at_least is not None:
        note(metric.value >= gate.at_least, f"{measured}, minimum {figure(gate.at_least)}")
    if gate.at_most is not None:
        note(metric.value <= gate.at_most, f"{measured}, limit {figure(gate.at_most)}")
    if gate.no_worse_than:
        reference = _reference(gate, evidence, report)
        if isinstance(reference, NoReference):
            why = f"skipped: {reference.why}" if reference.outcome == "skipped" else reference.why
            text = f"{measured} against {gate.no_worse_than}: {why}"
            results.append(GateResult(outcome=reference.outcome, text=text))
        else:
            slack = gate.tolerance().of(reference)
            alike = f" ({ALIKE})" if gate.no_worse_than == "champion" and report.measured_with else ""
            holds = metric.value >= reference - slack if metric.higher_is_better else metric.value <= reference + slack
            note(holds, f"{measured}, {gate.no_worse_than} {figure(reference)}, margin {gate.tolerance()}{alike}")
    return results


def _reference(gate: Gate, evidence: Judged, report: Measured) -> float | NoReference:
    """The reference value, or why there is none."""
    if gate.no_worse_than == "unquantized":
        other = evidence.unquantized
        if other is None:
            return NoReference(outcome="failed", why="the checkpoint's own report is missing")
    elif evidence.has_served:
        return NoReference(outcome="skipped", why="this release has served production before")
    elif evidence.champion is None:
        return NoReference(outcome="skipped", why="there is no champion yet")
    else:
        other = evidence.champion.report
        if other is None:
            champion = short(evidence.champion.release)
            return NoReference(outcome="failed", why=f"the champion {champion} has no readable report on these rows")
    if gate.no_worse_than == "champion" and (differs := differences(report, other)):
        again = f"`llmops run --rebuild {report.stage} --reason WHY`"
        why = f"measured differently: {', '.join(differs)}; measure this one again, with {again}"
        return NoReference(outcome="failed", why=why)
    if not alike(report, other):
        return NoReference(outcome="failed", why="its report is on other rows or other metrics")
    value = other.value(gate.metric)
    if value is None or not math.isfinite(value):
        return NoReference(outcome="failed", why="its report does not contain this metric")
    return value


def judge_checks(subject: str, report: str | None, checks: Sequence[Check] | None) -> Verdict:
    """A verdict on a list of checks, for stages that check instead of measuring."""
    if not checks:
        return Verdict(subject=subject, report=report, champion=None, failures=(f"no report on {subject}",))
    return Verdict(
        subject=subject,
        report=report,
        champion=None,
        failures=tuple(f"{c.name}: {c.summary}" for c in checks if not c.passed and c.severity == "error"),
        reasons=tuple(f"{c.name}: {c.summary}" for c in checks if c.passed or c.severity == "warn"),
    )
