"""Releases that a person took back: held, until another release comes or a person lifts the hold. Pure."""

from collections.abc import Sequence

from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen


class Hold(Frozen):
    """A release that is not deployed again by itself."""

    project: str
    release: str
    reason: str
    by: str
    since: float

    def __str__(self) -> str:
        return (
            f"release {short(self.release)} is held since {self.by} rolled it back ({self.reason}); "
            f"`llmops unhold {self.project}` lifts it"
        )


class NoTarget(Exception):
    """There is nothing to roll back to; the message says why."""


def rollback_target(served: Sequence[str], held: Sequence[str], named: str | None = None) -> str:
    """The release to go back to.

    Args:
        served: releases that production served, oldest first; the last one is what it serves now.
        held: releases that were left behind, so that rolling back twice goes further back instead of to and fro.
        named: the release, or the beginning of one, that a person asked for.

    Raises:
        NoTarget: there is none.
    """
    if not served:
        raise NoTarget("production serves nothing yet")
    earlier = list(dict.fromkeys(r for r in reversed(served) if r != served[-1]))
    if named is None:
        found = [r for r in earlier if r not in held]
        if not found:
            raise NoTarget("production served no other release before that is not held")
        return found[0]
    if len(named) >= 6 and served[-1].startswith(named):
        raise NoTarget(f"production serves {short(served[-1])} already")
    matches = [r for r in earlier if r.startswith(named)] if len(named) >= 6 else []
    if len(matches) != 1:
        known = ", ".join(short(r) for r in earlier) or "none"
        raise NoTarget(f"production never served a release {named!r} (served before: {known})")
    if matches[0] in held:
        raise NoTarget(f"release {short(matches[0])} is held; `llmops unhold` lifts that first")
    return matches[0]
