"""What differs between the resolved values of two revisions, in words. Which stages that touches, the plan says."""

from collections.abc import Mapping
from typing import Any

from llmops_assets.domain.chain import CHAIN
from llmops_assets.domain.models import Frozen

DATA = frozenset({"data"})


class Change(Frozen):
    value: str
    text: str


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names: {"lora": {"r": 8}} → {"lora.r": 8}.

    An empty mapping holds nothing but defaults, so it has no name: filling it removes nothing.
    """
    if isinstance(value, Mapping):
        return {k: v for name, inner in value.items() for k, v in flatten(inner, f"{prefix}.{name}").items()}
    return {prefix: value}


def _show(value: Any) -> str | None:
    """A value short enough to be read in a sentence, or None."""
    if value is None:
        return "unset"
    if isinstance(value, bool | int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    text = str(value)
    return text if isinstance(value, str) and len(text) <= 24 and "\n" not in text else None


def describe(name: str, before: Any, after: Any) -> str:
    """One sentence on how a value changed, down to the key where that is short enough."""
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
    """Every value that differs, in the order of the chain."""
    order = list(dict.fromkeys([v for stage in CHAIN for v in stage.values] + sorted({*before, *after})))
    return tuple(
        Change(value=name, text=describe(name, before.get(name), after.get(name)))
        for name in order
        if before.get(name) != after.get(name)
    )


def only_data(found: tuple[Change, ...]) -> bool:
    """Whether the DVC sensor owns this change."""
    return bool(found) and all(c.value in DATA for c in found)


def needs_a_run(found: tuple[Change, ...]) -> bool:
    """Policy that is read when acting deploys nothing by itself, except gates: they ask for a new verdict."""
    return any(c.value != "policy" for c in found)
