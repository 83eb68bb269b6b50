"""Findings: single problems that a check of the CI stage found, each with its place. Pure.

What people and machines read of them is in `sarif` and `junit`; a check with its findings is a `records.Check`.
"""

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.models import Frozen

MOST = 1_000
"""Findings that one check reports; more are counted."""
MOST_RECORDED = 50
"""Findings of one check in the record; the artifact has up to `MOST`."""
_MESSAGE, _RULE, _PATH = 500, 120, 400
_PROBLEM = re.compile(
    r"(?P<file>[^\s:][^:\n]*?)(?::(?P<line>\d+))?: (?:line (?P<inner>\d+): )?(?P<message>.*)", re.DOTALL
)


class Finding(Frozen):
    """One problem. Texts are on one line, bounded, and free of control characters: see `finding`."""

    tool: str = Field(description="The check that found it.")
    rule: str = Field(description="The tool's own name of the rule.")
    message: str
    file: str = Field(default="", description="Path within the project, with `/`; empty: no single file.")
    line: int | None = Field(default=None, description="From 1.")
    column: int | None = Field(default=None, description="From 1.")
    severity: Literal["error", "warn"] = "error"

    @property
    def place(self) -> str:
        """For example "src/metrics.py:3:7"; empty if it has none."""
        numbers = [str(n) for n in (self.line, self.column if self.line else None) if n]
        return ":".join([self.file, *numbers]) if self.file else ""

    @property
    def text(self) -> str:
        return f"{self.place + ': ' if self.place else ''}{self.rule}: {self.message}"


def finding(
    tool: str,
    rule: str,
    message: str,
    file: str = "",
    line: int | None = None,
    column: int | None = None,
    severity: Literal["error", "warn"] = "error",
) -> Finding:
    """A finding from texts of others, which are cut at their limits. A line or column below 1 is none."""
    return Finding(
        tool=excerpt(tool, _RULE),
        rule=excerpt(rule, _RULE) or tool,
        message=excerpt(message.strip(), _MESSAGE),
        file=excerpt(file, _PATH),
        line=line if file and line and line > 0 else None,
        column=column if file and line and line > 0 and column and column > 0 else None,
        severity=severity,
    )


def located(problem: str, tool: str, rule: str = "", known: Sequence[str] = ()) -> Finding:
    """The finding of a problem in words, which begins with its place: "FILE: …", "FILE:LINE: …", "FILE: line LINE: …".

    Args:
        known: the files that a place may name. Any other beginning belongs to the message.
    """
    found = _PROBLEM.fullmatch(problem)
    if found is None or found["file"] not in known:
        return finding(tool, rule or tool, problem)
    line = found["line"] or found["inner"]
    return finding(tool, rule or tool, found["message"], found["file"], int(line) if line and len(line) < 10 else None)


def in_order(findings: Sequence[Finding]) -> tuple[tuple[Finding, ...], int]:
    """The first `MOST` findings, errors first, then by place, without duplicates; and how many more there are."""
    unique = sorted(set(findings), key=lambda f: (f.severity, f.file, f.line or 0, f.column or 0, f.rule, f.message))
    return tuple(unique[:MOST]), len(unique[MOST:])
