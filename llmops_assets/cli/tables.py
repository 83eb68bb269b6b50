"""Aligned text that people can read at 80 columns, and that scripts get whole: nothing is ever elided.

On a terminal the last column wraps, with a hanging indent; into a pipe or a file each row is one line.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from llmops_assets.cli.context import out
from llmops_assets.domain.formatting import figure

STYLES = {
    "released": "green", "serving": "green", "serves": "green", "run": "yellow", "reuse": "dim", "later": "dim",
    "running": "yellow", "queued": "yellow", "waiting": "yellow", "candidate": "cyan", "degraded": "yellow",
    "rejected": "red", "failed": "red", "refuse": "red", "skip": "dim", "down": "red", "held": "magenta",
    "cancelled": "magenta", "superseded": "dim", "skipped": "dim", "collected": "dim",
}  # fmt: skip
"""Colours of outcomes and actions; text without an entry is not coloured."""
_NARROWEST = 24
"""Columns that the last one needs; on a narrower terminal it starts on a line of its own."""


def show(rows: Sequence[Sequence[str]], heading: Sequence[str] = (), indent: int = 0) -> None:
    """Prints rows in aligned columns; every column except the last is as wide as its widest cell."""
    table = [list(heading), *map(list, rows)] if heading else [list(row) for row in rows]
    if not table:
        return
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]) - 1)]
    for number, row in enumerate(table):
        line = Text(" " * indent)
        for cell, width in zip(row, widths, strict=False):
            style = "bold" if heading and number == 0 else STYLES.get(cell.split(" ")[0], "")
            line.append(cell.ljust(width), style).append("  ")
        _end(line, row[-1], "bold" if heading and number == 0 else STYLES.get(row[-1], ""))


def say(text: str, indent: int = 0, style: str = "") -> None:
    """Prints a paragraph; on a terminal it wraps with this indent."""
    _end(Text(" " * indent), text, style)


def _end(line: Text, last: str, style: str) -> None:
    """Prints a line with its last, free text."""
    if not out.is_terminal:
        line.append(last, style)
        line.rstrip()
        out.print(line, soft_wrap=True)
        return
    start = len(line)
    longest = max((len(word) for word in last.split()), default=0)
    if start > 4 and out.width - start < max(_NARROWEST, longest):
        line.rstrip()
        out.print(line, soft_wrap=True)
        line, start = Text(" " * 4), 4
    for part in _wrapped(last, out.width - start):
        line.append(part, style)
        line.rstrip()
        out.print(line, soft_wrap=True)
        line = Text(" " * start)


def _wrapped(text: str, width: int) -> list[str]:
    """Wraps between words only, so that addresses and digests can be copied."""
    wrap = textwrap.TextWrapper(max(width, 8), break_long_words=False, break_on_hyphens=False)
    return [part for line in text.split("\n") for part in wrap.wrap(line) or [""]]


def show_tree(value: Any, indent: int = 0) -> None:
    """Prints nested data as indented text: no quotes, no brackets, no Python objects."""
    entries = list(value.items() if isinstance(value, Mapping) else enumerate(value, start=1))
    width = max((len(str(key)) for key, inner in entries if not _is_nested(inner)), default=0)
    for key, inner in entries:
        if _is_nested(inner):
            say(f"{key}", indent, "bold" if indent == 0 else "")
            show_tree(inner, indent + 2)
        elif "\n" in (text := plain(inner)):
            say(f"{key}", indent)
            for line in text.splitlines():
                say(f"│ {line}", indent + 2)
        else:
            _end(Text(" " * indent).append(f"{str(key).ljust(width)}  ", "bold" if indent == 0 else ""), text, "")


def _is_nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list | tuple) and any(isinstance(v, Mapping | list | tuple) for v in value)


def plain(value: Any) -> str:
    """A value as people write it."""
    if value is None or value == [] or value == ():
        return "none"
    if value == {}:
        return "defaults"  # configuration is stored without them
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(inner) for inner in value)
    return str(value)
