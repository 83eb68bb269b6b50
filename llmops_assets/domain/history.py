"""The history of a project's releases, for people: when each served, and what a rollback can go to. Pure."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal

from llmops_assets.domain.models import Frozen
from llmops_assets.domain.rollback import NoTarget, rollback_target

State = Literal["serves", "earlier", "held", "collected", "never served"]


class ReleaseLine(Frozen):
    release: str
    revision: str
    """The commit that production served it for, or the first one that produced it."""
    state: State
    since: float | None = None
    until: float | None = None
    """When another release replaced it; None while it serves."""
    can_roll_back_to: bool = False
    is_target: bool = False
    """Whether a rollback without a named release goes here."""


def release_history(
    made: Sequence[tuple[str, str]],
    served: Sequence[tuple[str, str, float]],
    held: Sequence[str],
    collected: Mapping[str, float],
) -> list[ReleaseLine]:
    """All releases: those that served production first, the newest on top.

    Args:
        made: (release, revision) of every release, oldest first.
        served: (release, revision, since) of every time that production began to serve one, oldest first.
        held: rolled-back releases.
        collected: releases whose weights are gone.
    """
    lines: dict[str, ReleaseLine] = {}
    order = [release for release, _, _ in served]
    target = None
    with suppress(NoTarget):
        target = rollback_target(order, held, None, collected)
    for number in range(len(served) - 1, -1, -1):
        release, revision, since = served[number]
        if release in lines:
            if lines[release].since == served[number + 1][2]:  # for another commit: it served without a break
                lines[release] = lines[release].model_copy(update={"since": since})
            continue
        now = release == order[-1]
        until = None if now else next(at for name, _, at in served[number + 1 :] if name != release)
        state: State = "serves" if now else "held" if release in held else "earlier"
        if release in collected and not now:
            state = "collected"
        free = state == "earlier"
        lines[release] = ReleaseLine(
            release=release, revision=revision, state=state, since=since, until=until,
            can_roll_back_to=free, is_target=release == target,
        )  # fmt: skip
    others = [
        ReleaseLine(release=release, revision=revision, state="collected" if release in collected else "never served")
        for release, revision in reversed(made)
        if release not in lines
    ]
    return [*lines.values(), *others]
