"""Decides what a client that waits for a run on another machine does next: wait, start one, or return the answer. Pure.

A request's run can die, and the recovery sensor then starts another one: so the newest run of the commit counts, and
its outcome is the tag that shows the ledger's.
"""

from collections.abc import Sequence
from typing import Literal

from llmops_assets.domain.models import Frozen

RECOVERY_S = 120.0
"""How long a run that died may lack a successor: the recovery sensor notices it within its interval, seconds."""
OUTCOME_S = 60.0
"""How long a run that succeeded may lack its outcome: the recovery sensor tags it within its interval."""
_ACTIVE = frozenset({"QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "CANCELING"})
_GOOD = frozenset({"released", "done"})
_AGAIN = frozenset({"failed", "cancelled"})
"""Outcomes after which somebody who asks again wants another run; a rejection would be the same again."""


class RemoteRun(Frozen):
    """A run of one commit of one project, as Dagster shows it."""

    run_id: str
    status: str
    outcome: str | None = None
    requested: bool = False
    """Whether the ledger has a request for it, so that the recovery sensor looks after it."""

    @property
    def active(self) -> bool:
        return self.status in _ACTIVE


class WaitOn(Frozen):
    run_id: str | None


class StartOne(Frozen):
    pass


class Answered(Frozen):
    run_id: str
    good: bool
    outcome: str


def at_first(runs: Sequence[RemoteRun], waited_s: float, grace_s: float) -> WaitOn | StartOne:
    """What to do about a commit that somebody asks for: join its run, or start one.

    Args:
        runs: of this commit, newest first.
        waited_s: how long has been waited for a sensor to start one.
    """
    if not runs:
        return StartOne() if waited_s >= grace_s else WaitOn(run_id=None)
    newest = runs[0]
    if newest.active or newest.outcome not in (None, *_AGAIN) or (newest.outcome is None and newest.requested):
        return WaitOn(run_id=newest.run_id)
    return StartOne() if newest.outcome in _AGAIN or newest.status != "SUCCESS" else WaitOn(run_id=newest.run_id)


def decide(runs: Sequence[RemoteRun], idle_s: float) -> WaitOn | Answered:
    """Whether the answer is known.

    Args:
        runs: of this commit, newest first; at least one.
        idle_s: how long its newest run has been over.
    """
    newest = runs[0]
    if newest.active:
        return WaitOn(run_id=newest.run_id)
    if newest.outcome and newest.outcome != "re-executed":
        return Answered(run_id=newest.run_id, good=newest.outcome in _GOOD, outcome=newest.outcome)
    if newest.requested and idle_s < (OUTCOME_S if newest.status == "SUCCESS" else RECOVERY_S):
        return WaitOn(run_id=newest.run_id)
    ended: dict[str, Literal["done", "failed", "cancelled"]] = {"SUCCESS": "done", "CANCELED": "cancelled"}
    outcome = ended.get(newest.status, "failed")
    return Answered(run_id=newest.run_id, good=outcome == "done", outcome=outcome)
