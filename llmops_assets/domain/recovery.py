"""Decides what happens to a request whose run has ended, is missing, or waits for a person. Pure."""

from collections.abc import Sequence
from typing import Literal

from llmops_assets.domain.approval import Approved, Waiting
from llmops_assets.domain.budget import WithinBudget
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.report_review import Reviewed
from llmops_assets.domain.requests import ELSEWHERE, PARTIAL, Request, Status, another_generation, newest_planned

MAX_TRIES = 4
"""Runs of a request that may die before it fails; a retry by a person resets the count."""
PAUSES_S = (0.0, 15.0, 60.0)
"""How long after the end of a request's first, second and third run the next one starts: a process that was killed
resumes at once; what dies again and again waits until whatever it needs is back."""
LAUNCH_GRACE_S = 45.0
"""How long a request may lack its Dagster run, which is created 3 to 6 s after the tick that requested it."""

RunState = Literal["missing", "active", "succeeded", "failed", "cancelled"]


class Leave(Frozen):
    reason: str


class Close(Frozen):
    status: Status
    detail: str


class Again(Frozen):
    generation: int
    reason: str


def after_waiting(
    requests: Sequence[Request], request: Request, found: Approved | Reviewed | WithinBudget | Waiting
) -> Leave | Close | Again:
    """Decides what happens to a request that waits for an approval, a review, or a decision on its budget."""
    newest = newest_planned(requests)
    # A commit of another branch is not replaced by one of the watched branch.
    stays = (*ELSEWHERE, PARTIAL)
    if newest is not None and newest.revision != request.revision and request.asked_by not in stays:
        return Close(status="superseded", detail=f"a newer commit, {short(newest.revision)}, has been planned since")
    if isinstance(found, Waiting) and found.rejected:
        return Close(status="rejected", detail="; ".join(found.reasons))
    if isinstance(found, Waiting):
        return Leave(reason=f"{short(request.revision)} is waiting: {request.detail}")
    generation = another_generation(requests, request.revision)
    if isinstance(found, Reviewed | WithinBudget):
        return Again(generation=generation, reason=found.text)
    decision = found.decision
    return Again(generation=generation, reason=f"approved by {decision.by}: {decision.reason}")


def ended_well(refused: Sequence[str], early: str | None = None) -> Close:
    """Closes a request whose run completed all selected stages.

    Args:
        refused: failed asset checks of the run. No stage of this run depended on them, or it would have been refused;
            but the next run that depends on them will be.
        early: what a partial run leaves undone.
    """
    if refused:
        return Close(status="rejected", detail="; ".join(refused))
    return Close(status="done", detail=early or "all selected stages completed")


def recover(
    request: Request,
    run: RunState,
    is_newest: bool,
    missing_s: float = 0.0,
    refused: Sequence[str] = (),
    ended_s: float | None = None,
    why: str = "",
    pauses_s: Sequence[float] = PAUSES_S,
) -> Leave | Close | Again:
    """Decides what happens to an active request, from the state of its run and its failed checks.

    Args:
        missing_s: how long the request has lacked a run, in seconds.
        refused: failed asset checks of the run.
        ended_s: how long ago the run ended, in seconds; None if that is unknown. Negative if a clock was set back.
        why: the error that the run ended with, if there was one.
        pauses_s: how long after the end of the first, second … run the next one starts; the last one repeats.

    An outcome (released, rejected, failed) closes a request, which is then no longer active. So if a run failed while
    its request is still active, the run crashed, and the next generation of the request continues.
    """
    if run == "active":
        return Leave(reason=f"{short(request.revision)} is running")
    if request.by_hand and (run != "missing" or missing_s >= LAUNCH_GRACE_S):
        # A person started it and watches it, so it is never repeated automatically. It is closed in the transaction
        # that records the new release, so production has not changed.
        how = "run `llmops rollback` again" if request.rollback else "materialize production_endpoint again"
        what = "rollback" if request.rollback else "rollout"
        return Close(status="failed", detail=f"the {what} was interrupted, production is unchanged; {how}")
    if run == "missing" and missing_s < LAUNCH_GRACE_S:
        return Leave(reason=f"{short(request.revision)} is being launched")
    if run == "succeeded":
        return ended_well(refused, request.ends_early)
    if run == "cancelled":
        return Close(status="cancelled", detail="the run was cancelled; `llmops retry` restarts it")
    if not is_newest:
        return Close(status="superseded", detail="its run ended early and a newer commit has been planned since")
    how = "was never launched" if run == "missing" else "ended without an outcome"
    because = f": {why}" if why else ""
    if request.tries >= MAX_TRIES:
        # What the change itself is to blame for has closed the request in its first run.
        return Close(
            status="failed",
            detail=f"{request.tries} runs {how}{because}. The change is not to blame: fix the cause, then "
            "`llmops retry`",
        )
    pause = pauses_s[min(request.tries, len(pauses_s)) - 1]
    if ended_s is not None and 0 <= ended_s < pause:
        return Leave(
            reason=f"{short(request.revision)} {how}{because}; run {request.tries + 1} of at most {MAX_TRIES} starts "
            f"in {pause - ended_s:.0f} s"
        )
    return Again(generation=request.generation + 1, reason=f"generation {request.generation} {how}{because}")
