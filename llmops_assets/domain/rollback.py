"""Rollbacks: holds on rolled-back releases, and the choice of the release to return to. Pure."""

from collections.abc import Mapping, Sequence

from llmops_assets.domain.formatting import on_date
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen


class Hold(Frozen):
    """A rolled-back release, which is not deployed again until there is another release or a person lifts the hold."""

    project: str
    release: str
    reason: str
    by: str
    since: float

    def __str__(self) -> str:
        return (
            f"release {short(self.release)} is held: {self.by} rolled it back ({self.reason}); "
            f"`llmops unhold {self.project}` lifts it"
        )


class NoTarget(Exception):
    """There is no release to roll back to; the message says why."""


def rolled_back(served: Sequence[str], holds: Sequence[Hold]) -> Hold | None:
    """The hold of the rollback that brought the current release to production; None: another way brought it.

    Args:
        served: releases that production served, oldest first.
        holds: those that are not lifted.
    """
    before = next((r for r in reversed(served) if r != served[-1]), None)
    return next((hold for hold in holds if hold.release == before), None)


def rollback_target(
    served: Sequence[str], held: Sequence[str], named: str | None = None, collected: Mapping[str, float] | None = None
) -> str:
    """The release to roll back to.

    Args:
        served: releases that production served, oldest first; the last one is the current one.
        held: rolled-back releases, so that a second rollback goes further back instead of toggling.
        named: the requested release, or a prefix of its digest.
        collected: releases whose weights were deleted by garbage collection, and when.

    Raises:
        NoTarget: there is none.
    """
    if not served:
        raise NoTarget("production serves nothing yet")
    gone = collected or {}
    earlier = list(dict.fromkeys(r for r in reversed(served) if r != served[-1]))
    if named is None:
        found = [r for r in earlier if r not in held and r not in gone]
        if not found:
            why = "held or collected" if any(r in gone for r in earlier) else "held"
            raise NoTarget(f"production served no earlier release that is not {why}")
        return found[0]
    if len(named) >= 6 and served[-1].startswith(named):
        raise NoTarget(f"production already serves {short(served[-1])}")
    matches = [r for r in earlier if r.startswith(named)] if len(named) >= 6 else []
    if len(matches) != 1:
        known = ", ".join(short(r) for r in earlier) or "none"
        raise NoTarget(f"production never served a release {named!r} (served before: {known})")
    if matches[0] in gone:
        raise NoTarget(
            f"release {short(matches[0])} was collected on {on_date(gone[matches[0]])}, so its weights are gone. "
            "Remedy: `llmops run` its commit again"
        )
    if matches[0] in held:
        raise NoTarget(f"release {short(matches[0])} is held; run `llmops unhold` first")
    return matches[0]
