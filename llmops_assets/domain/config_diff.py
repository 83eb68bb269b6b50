"""Describes the differences between the resolved values of two revisions. The plan decides which stages they affect."""

from collections.abc import Mapping
from typing import Any

from llmops_assets.domain.chain import CHAIN
from llmops_assets.domain.models import Frozen

DATA = frozenset({"data"})


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
