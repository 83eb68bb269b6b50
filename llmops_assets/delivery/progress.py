"""Formats a program's progress lines."""

from collections.abc import Mapping
from typing import Any


def progress_text(line: Mapping[str, Any]) -> str:
    """A progress line as text."""
    parts = []
    if "step" in line and line.get("total"):
        parts.append(f"{line['step']}/{line['total']}")
    for name, unit in (("loss", ""), ("tokens_per_s", " tokens/s"), ("eta_s", " s left")):
        value = line.get(name)
        if isinstance(value, int | float):
            parts.append(f"{value:.0f}{unit}" if unit else f"{name} {value:.3f}")
    parts += [str(line[name]) for name in ("phase", "message") if line.get(name)]
    return ", ".join(parts) or "running"
