"""A plan as Markdown, for a comment on a pull request or a job's summary. Pure.

Texts of commits, prompts and configurations come from other people: all of them are escaped.
"""

from collections.abc import Sequence

from llmops_assets.domain.keys import short
from llmops_assets.domain.markdown import escaped, table
from llmops_assets.domain.plan_estimate import StageEstimate, in_words, money
from llmops_assets.domain.plan_report import PlanReport

CELL = 200
MOST = 40
"""Rows of a table; the rest is counted."""


def markdown(report: PlanReport, gates: Sequence[str] = (), more: Sequence[str] = ()) -> str:
    """The plan with its heading and the commit's subject; arguments as `body`."""
    plan = report.plan
    against = f", against {short(plan.base)}" if plan.base else ""
    heading = f"## Plan of {escaped(plan.project)} at {short(plan.revision)}{against}"
    return "\n\n".join(filter(None, [heading, escaped(report.subject, CELL), body(report, gates, more)])) + "\n"


def body(report: PlanReport, gates: Sequence[str] = (), more: Sequence[str] = ()) -> str:
    """The plan in sections; those without content are left out.

    Args:
        gates: what the gates can tell with the rows that there are.
        more: other lines, such as what the canary can tell apart.
    """
    plan = report.plan
    parts = [
        "Nothing to do." if plan.nothing_to_do else f"Estimate: {escaped(report.estimate.text)}.",
        _section("Changes", _table(("where", "change", "stages"), _changes(report))),
        _section("Stages", _table(("stage", "action", "why"), _stages(report))),
        _section("Estimate", _table(("stage", "time", "cost", "from"), _estimates(report))),
        _section("Budget", [escaped(report.budget.says, 800)] if report.budget else []),
        _section("Missing", [f"- {escaped(text, 800)}" for text in report.lacks]),
        _section("Asked", _table(("stage", "condition"), [(a.stage, a.condition) for a in report.asked])),
        _section("Policy", [f"- {escaped(text)}" for text in plan.policy]),
        _section("Gates", [f"- {escaped(text)}" for text in gates[:MOST]]),
        _section("Notes", [f"- {escaped(text)}" for text in more]),
    ]
    return "\n\n".join(part for part in parts if part)


def _changes(report: PlanReport) -> list[tuple[str, ...]]:
    return [(c.where, c.what, ", ".join(c.stages) or "none") for c in report.changes or ()]


def _stages(report: PlanReport) -> list[tuple[str, ...]]:
    made = {r.stage: f" (run {r.run[:8]}, {r.at[:10]})" for r in report.reused}
    known = ((line.stage, line.action, line.why + made.get(line.stage, "")) for line in report.lines)
    later = ((stage, "run or reuse", "decided when the results before it are known") for stage in report.later)
    return [*known, *later]


def _estimates(report: PlanReport) -> list[tuple[str, ...]]:
    return [(e.stage, *estimate_cells(e, report.estimate.currency)) for e in report.estimate.stages]


def estimate_cells(estimate: StageEstimate, currency: str) -> tuple[str, str, str]:
    """(time, cost, where the figures come from) of one stage, as text."""
    time = in_words(estimate.seconds) if estimate.seconds else "unknown"
    cost = money(estimate.cost, currency) if estimate.cost else "–"
    many = f"{estimate.runs} earlier run{'s' if estimate.runs != 1 else ''}" if estimate.runs else ""
    sure = "" if estimate.sure else "only if its inputs change"
    return time, cost, "; ".join(filter(None, [many, estimate.note, sure]))


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n\n".join([f"### {title}", "\n".join(lines)]) if lines else ""


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    more = len(rows) - MOST
    rest = [[f"and {more} more", *[""] * (len(heading) - 1)]] if more > 0 else []
    return table(heading, [*([escaped(cell, CELL) for cell in row] for row in rows[:MOST]), *rest])
