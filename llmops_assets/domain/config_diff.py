"""Describes the differences between the resolved values, configuration and prompts of two revisions. Pure.

The plan decides which stages they affect.
"""

import difflib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from llmops_assets.domain.chain import CHAIN
from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.review import ConfigChange

DATA = frozenset({"data"})
VALUE_CHARACTERS = 300
KEYS, DIFF_LINES, LINE_CHARACTERS = 100, 200, 500
"""Bounds of what a page shows; a configuration may be generated."""


class Change(Frozen):
    value: str
    text: str


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flattens nested mappings to dotted names: {"lora": {"r": 8}} → {"lora.r": 8}.

    An empty mapping has defaults only, so it yields no name: filling it removes nothing.
    """
    if isinstance(value, Mapping):
        return {k: v for name, inner in value.items() for k, v in flatten(inner, f"{prefix}.{name}").items()}
    return {prefix: value}


def _show(value: Any) -> str | None:
    """The value as text if it is short enough for a sentence, otherwise None."""
    if value is None:
        return "unset"
    if isinstance(value, bool | int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    text = str(value)
    return text if isinstance(value, str) and len(text) <= 24 and "\n" not in text else None


def describe(name: str, before: Any, after: Any) -> str:
    """Describes how a value changed, key by key where that is short enough."""
    if name == "tree":
        return "project files changed"
    old, new = flatten(before, name), flatten(after, name)
    keys = [k for k in dict.fromkeys([*old, *new]) if old.get(k) != new.get(k)]
    parts = []
    for key in keys:
        was, now = _show(old.get(key)), _show(new.get(key))
        if key in old and key in new and was and now:
            parts.append(f"{key} {was} → {now}")
        elif key not in new:
            parts.append(f"{key} removed" if not was else f"{key} {was} → default")
        elif key not in old and now and before is not None:
            parts.append(f"{key} set to {now}")
        else:
            parts.append(f"{key} changed")
    return ", ".join(parts) or f"{name} changed"


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """All values that differ, in chain order."""
    order = list(dict.fromkeys([v for stage in CHAIN for v in stage.values] + sorted({*before, *after})))
    return tuple(
        Change(value=name, text=describe(name, before.get(name), after.get(name)))
        for name in order
        if before.get(name) != after.get(name)
    )


def only_data(found: tuple[Change, ...]) -> bool:
    """Whether only data changed, so that the DVC sensor handles it."""
    return bool(found) and all(c.value in DATA for c in found)


def needs_a_run(found: tuple[Change, ...]) -> bool:
    """Whether the change needs a run. A policy change alone deploys nothing; changed gates need a new verdict."""
    return any(c.value != "policy" for c in found)


def key_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[ConfigChange, ...]:
    """The keys of two complete configurations (llmops.yaml with its defaults) whose values differ.

    A list has a change for each entry that was removed or added; one for all of it if only the order differs.
    """
    old, new = flatten(before), flatten(after)
    found: list[ConfigChange] = []
    for key in dict.fromkeys([*old, *new]):
        was, now = old.get(key), new.get(key)
        if key in old and key in new and was == now:
            continue
        name = key.removeprefix(".")
        if isinstance(was, list) and isinstance(now, list):
            found += _entries(name, was, now)
        else:
            found.append(ConfigChange(key=name, before=_text(was, key in old), after=_text(now, key in new)))
    more = len(found) - KEYS
    told = [ConfigChange(key=f"{more} more keys", before=None, after=None)] if more > 0 else []
    return (*found[:KEYS], *told)


def _entries(name: str, was: list[Any], now: list[Any]) -> list[ConfigChange]:
    old, new = (Counter(str(_text(entry, True)) for entry in entries) for entries in (was, now))
    gone, come = [*(old - new).elements()], [*(new - old).elements()]
    if not gone and not come:
        return [ConfigChange(key=name, before=_text(was, True), after=_text(now, True))]
    return [
        *(ConfigChange(key=name, before=entry, after=None) for entry in gone),
        *(ConfigChange(key=name, before=None, after=entry) for entry in come),
    ]


def _text(value: Any, there: bool) -> str | None:
    """A value as JSON, without what is unset or empty, shortened; None if the key is not there."""
    if not there:
        return None
    if value is None:
        return "unset"
    if isinstance(value, Mapping):
        value = {name: inner for name, inner in value.items() if inner is not None}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return excerpt(text, VALUE_CHARACTERS)


def text_diff(before: str, after: str) -> str:
    """A unified diff of two texts with three lines of context; empty if they are equal, shortened if it is long."""
    lines = [
        line if len(line) <= LINE_CHARACTERS else f"{line[: LINE_CHARACTERS - 1]}…"
        for line in difflib.unified_diff(_lines(before), _lines(after), "before", "after", lineterm="")
    ]
    if before != after and not lines:
        return "(they differ in the end of the last line only)"
    more = len(lines) - DIFF_LINES
    return "\n".join([*lines[:DIFF_LINES], *([f"… {more:,} more lines"] if more > 0 else [])])


def _lines(text: str) -> list[str]:
    return text.split("\n")
