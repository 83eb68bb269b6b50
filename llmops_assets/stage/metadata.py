"""Converts records to Dagster metadata."""

from typing import Any

import dagster as dg

from llmops_assets.domain.markdown import escaped, fenced
from llmops_assets.domain.records import Check


def figure_of(value: float) -> float:
    """Rounds a figure to six digits; the others are noise."""
    return float(f"{value:.6g}")


def checks_metadata(checks: tuple[Check, ...]) -> dict[str, Any]:
    """Checks as metadata: the number of passed and failed ones, and a table of all."""
    rows = [
        dg.TableRecord(
            {"check": c.name, "passed": c.passed, "summary": c.summary[:300], "seconds": round(c.seconds, 1)}
        )
        for c in checks
    ]
    failed = [f"**{c.name}**: {escaped(c.summary)}\n\n{fenced(c.detail[-3000:])}" for c in checks if not c.passed]
    found: dict[str, Any] = {
        "passed_checks": sum(c.passed for c in checks),
        "failed_checks": sum(not c.passed for c in checks),
        "checks": dg.MetadataValue.table(records=rows) if rows else "none",
    }
    return found | ({"failures": dg.MetadataValue.md("\n\n".join(failed))} if failed else {})
