"""A verdict: the outcome of judging evidence at one moment, with every reason. Pure; `domain.gate` judges reports."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from llmops_assets.domain.gate_power import Power
from llmops_assets.domain.markdown import escaped
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import Check


class Compared(Frozen):
    """A figure of the evaluated report, and those that it was compared with; None if there is none to compare with."""

    metric: str
    value: float | None = Field(description="None if it is not finite; JSON has no such number.")
    higher_is_better: bool
    champion: float | None = None
    unquantized: float | None = None
    low: float | None = Field(default=None, description="Lower bound of value, with 95% confidence on its own.")
    high: float | None = Field(default=None, description="Upper bound of value, with 95% confidence on its own.")


class Verdict(Frozen):
    """The outcome of evaluating one report at one moment, with every reason for and against."""

    subject: str = Field(description="What was evaluated, as text.")
    report: str | None = Field(description="Digest of the report; None if there was none.")
    champion: str | None = Field(description="Release digest of the champion at that moment.")
    failures: tuple[str, ...] = ()
    undecided: tuple[str, ...] = Field(
        default=(), description="Conditions that these rows show neither to hold nor to fail: nothing is released."
    )
    reasons: tuple[str, ...] = Field(default=(), description="Conditions that held.")
    skipped: tuple[str, ...] = Field(
        default=(),
        description="Conditions that did not apply, and why. Older verdicts have them in reasons.",
    )
    powers: tuple[Power, ...] = Field(
        default=(), description="What the gates with intervals could tell with these rows, whatever they found."
    )
    figures: tuple[Compared, ...] = Field(default=(), description="The report's figures beside the champion's.")
    check: str = Field(default="", description="The asset check that shows it: 'stage:check'. Empty: none does.")
    loosened: tuple[str, ...] = Field(
        default=(), description="What the candidate's policy asks for less than the champion's."
    )

    @property
    def passed(self) -> bool:
        return not self.failures and not self.undecided

    @property
    def outcome(self) -> Literal["passed", "failed", "undecided"]:
        if self.failures:
            return "failed"
        return "undecided" if self.undecided else "passed"

    @property
    def against(self) -> tuple[str, ...]:
        """Why it does not pass."""
        return (*self.failures, *self.undecided)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reviewer should know that decides nothing by itself."""
        return tuple(f"loosened since the champion: {text}" for text in self.loosened)

    @property
    def text(self) -> str:
        """All reasons on one line: what failed or is undecided, otherwise what held."""
        return "; ".join(self.against or (*self.reasons, *self.skipped, *self.warnings)) or "no gate applies"

    def markdown(self) -> str:
        signs = {"❌": self.failures, "❔": self.undecided, "✅": self.reasons, "➖": self.skipped, "⚠️": self.warnings}
        lines = [f"- {sign} {escaped(text, 2_000)}" for sign, texts in signs.items() for text in texts]
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
        undecided=texts("undecided"),
        reasons=texts("reasons"),
        skipped=texts("skipped"),
        loosened=tuple(dict.fromkeys(text for verdict in verdicts.values() for text in verdict.loosened)),
    )


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
