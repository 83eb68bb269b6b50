"""One change, one run, to its end: what each sensor's tick should do, decided from the ledger and the head. Pure.

Inserting the request's row (`resources.ledger`) is the lock; nothing here writes.
"""

from collections.abc import Sequence
from typing import Literal

from llmops_assets.domain.approval import Approved, Waiting
from llmops_assets.domain.config_diff import Change, needs_a_run, only_data
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen

Status = Literal[
    "queued", "running", "waiting", "released", "done", "rejected", "failed", "cancelled", "superseded", "skipped"
]
ACTIVE: frozenset[str] = frozenset({"queued", "running"})
"""Waiting for a person is not among them: newer commits go on."""
TOLD: frozenset[str] = frozenset({"skipped", "rejected", "failed", "waiting", "superseded"})
"""Statuses whose detail every later tick repeats."""
ROLLBACK = "rollback"
"""Who asked for a request that only moves traffic back; it plans no revision."""
PARTIAL = "person, some stages"
"""Who asked for `llmops run --only`: it brings no commit to its end, so sensors look past it."""
UNSETTLED: frozenset[str] = frozenset({"failed", "cancelled", "superseded"})
"""Ends that leave a change undone: what comes next is compared with what was planned before it."""
MAX_TRIES = 4
"""Runs of a request that may die before a person must look; who asks again gets as many anew."""
LAUNCH_GRACE_S = 45.0
"""How long a request may be seen without its Dagster run: one is created 3 to 6 s after the tick that asked for it."""
MOST_NAMED = 40
"""Commits that a message names one by one."""


class Request(Frozen):
    """A row of the ledger: this revision of this project, for the n-th time."""

    project: str
    revision: str
    generation: int
    status: Status
    reason: str
    asked_by: str = "sensor"
    base: str | None = None
    run_id: str | None = None
    tries: int = 1
    """Runs of it since somebody asked, this one among them. A person who asks again, or approves, begins anew."""
    detail: str = ""

    @property
    def name(self) -> str:
        return f"{self.project}:{self.revision}:{self.generation}"

    @property
    def active(self) -> bool:
        return self.status in ACTIVE

    @property
    def rollback(self) -> bool:
        return self.asked_by == ROLLBACK


def newest_planned(requests: Sequence[Request]) -> Request | None:
    """The request whose revision may deploy: a noted commit and a rollback bring no release of their own."""
    return next((r for r in reversed(planned(requests)) if r.status != "skipped" and not r.rollback), None)


def planned(requests: Sequence[Request]) -> list[Request]:
    """Requests that were to bring a commit to its end; partial ones only while they are at work."""
    return [r for r in requests if r.active or r.asked_by != PARTIAL]


def settled(requests: Sequence[Request]) -> Request | None:
    """The newest request that left no change undone: what a new head is compared with."""
    return next((r for r in reversed(planned(requests)) if r.status not in UNSETTLED), None)


class Head(Frozen):
    """The branch as a sensor saw it."""

    revision: str | None
    problem: str | None = None
    """Why there is no usable head: unreachable, deleted, a broken llmops.yaml, data not pushed."""
    found: tuple[Change, ...] | None = None
    """What differs from the revision of the `settled` request; None if there is none."""
    files: tuple[str, ...] = ()
    """Paths that differ, for the message."""
    passed_over: tuple[str, ...] = ()
    """Commits that nobody has looked at and that came before it, oldest first: they go into production with it."""
    cancels: bool = False
    """Its llmops.yaml says `on_newer: cancel`."""


class Start(Frozen):
    revision: str
    generation: int
    reason: str
    base: str | None = None


class Skip(Frozen):
    reason: str


class Note(Frozen):
    """Nothing to run, but the revision was looked at: recorded, so that it is the base of what follows."""

    revision: str
    generation: int
    reason: str


class Supersede(Frozen):
    """End the run at work, then look again: the newer commit's `on_newer` says so."""

    request: Request
    by: str
    detail: str


NextRequest = Start | Skip | Note | Supersede


def next_request(
    requests: Sequence[Request], head: Head, owner: Literal["git", "dvc"], holds: Sequence[object] = ()
) -> NextRequest:
    """What to do about a head.

    Args:
        requests: the project's requests, oldest first.
        owner: which sensor asks: changes of data alone are the DVC sensor's, all others the Git sensor's.
        holds: releases that are held, in words: said on every tick.
    """
    decision = _next_request(requests, head, owner)
    if holds and isinstance(decision, Skip):
        return Skip(reason="; ".join([decision.reason, *map(str, holds)]))
    return decision


def _next_request(every: Sequence[Request], head: Head, owner: Literal["git", "dvc"]) -> NextRequest:
    requests = planned(every)
    last = requests[-1] if requests else None
    if head.revision is None:
        return Skip(reason=head.problem or "the branch has no commit")
    sha = short(head.revision)
    if last and last.revision == head.revision:
        text = f": {last.detail or last.reason}" if last.status in TOLD or last.rollback else ""
        return Skip(reason=f"{sha} is {last.status}{text}")
    if head.problem:
        return Skip(reason=f"{sha}: {head.problem}")
    if active := [r for r in requests if r.active]:
        at_work = active[-1]
        unseen = all(r.revision != head.revision for r in requests)
        if head.cancels and unseen and not at_work.rollback and needs_a_run(head.found or ()):
            detail = f"{sha} is newer and says on_newer: cancel"
            return Supersede(request=at_work, by=head.revision, detail=detail)
        waits = f"{sha} waits for {short(at_work.revision)}, which is {at_work.status}"
        return Skip(reason=waits + _along(head.passed_over))
    generation = another_generation(every, head.revision)
    if head.found is None:
        if owner == "dvc":
            return Skip(reason=f"{sha}: the first run of a project is started by the Git sensor")
        return Start(revision=head.revision, generation=generation, reason="first run of this project")
    files = _few(head.files)
    if not needs_a_run(head.found):
        if owner == "dvc":
            return Skip(reason=f"{sha}: no data changed")
        what = (
            f"policy that is read when acting changed ({_few([c.text for c in head.found])}); "
            "it deploys nothing by itself"
            if head.found
            else f"no stage reads what it changed ({files})"
            if files
            else "its files are those of the commit planned before it"
        )
        reason = f"nothing to do: {what}{_along(head.passed_over)}"
        return Note(revision=head.revision, generation=generation, reason=reason)
    mine = "dvc" if only_data(head.found) else "git"
    if mine != owner:
        what = "only data changed: the DVC sensor starts it" if mine == "dvc" else "the Git sensor starts it"
        return Skip(reason=f"{sha}: {what}")
    reason = _few([c.text for c in head.found]) + _along(head.passed_over)
    before = settled(requests)
    return Start(revision=head.revision, generation=generation, reason=reason, base=before.revision if before else None)


def _few(items: Sequence[str], most: int = 4) -> str:
    shown = "; ".join(items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")


def _along(commits: Sequence[str]) -> str:
    """Names the commits that get no run of their own."""
    if not commits:
        return ""
    named = _few([short(c) for c in commits], MOST_NAMED).replace("; ", ", ")
    many = "commits" if len(commits) > 1 else "commit"
    return f"; with {len(commits)} {many} before it, skipped for the newer one: {named}"


RunState = Literal["missing", "active", "succeeded", "failed", "cancelled"]


class Leave(Frozen):
    reason: str


class Close(Frozen):
    status: Status
    detail: str


def another_generation(requests: Sequence[Request], revision: str) -> int:
    """The number of a revision's next request."""
    return 1 + max((r.generation for r in requests if r.revision == revision), default=0)


class Again(Frozen):
    generation: int
    reason: str


def after_waiting(requests: Sequence[Request], request: Request, found: Approved | Waiting) -> Leave | Close | Again:
    """What becomes of a request that waits for a person."""
    newest = newest_planned(requests)
    if newest is not None and newest.revision != request.revision:
        return Close(status="superseded", detail=f"{short(newest.revision)} has been planned since")
    if isinstance(found, Waiting):
        return Leave(reason=f"{short(request.revision)} is waiting: {request.detail}")
    generation = another_generation(requests, request.revision)
    decision = found.decision
    return Again(generation=generation, reason=f"approved by {decision.by}: {decision.reason}")


def ended_well(refused: Sequence[str]) -> Close:
    """What becomes of a request whose run did all that it selected.

    Args:
        refused: asset checks of the run that say no. Nothing of this run stood on them, or it would have been refused;
            but what the commit brings is not in order, and the next run that stands on it will be.
    """
    if refused:
        return Close(status="rejected", detail="; ".join(refused))
    return Close(status="done", detail="every selected stage is done")


def carry_on(
    request: Request, run: RunState, is_newest: bool, missing_s: float = 0.0, refused: Sequence[str] = ()
) -> Leave | Close | Again:
    """What becomes of an active request, seen from the state of its run and the checks that said no in it.

    Args:
        missing_s: for how long it has been seen without a run.
        refused: asset checks that said no in it.

    A request that an outcome closed (released, rejected, failed) is not active any more and never comes here: so a
    run that failed while its request is still active died on the way, and goes on under the next generation.
    """
    if run == "active":
        return Leave(reason=f"{short(request.revision)} is at work")
    if request.rollback and (run != "missing" or missing_s >= LAUNCH_GRACE_S):
        # A person watches it. What it had decided stands in the ledger; nobody rolls back twice by itself.
        return Close(status="failed", detail="the rollback was cut off; `llmops rollback` does it again")
    if run == "missing" and missing_s < LAUNCH_GRACE_S:
        return Leave(reason=f"{short(request.revision)} is being launched")
    if run == "succeeded":
        return ended_well(refused)
    if run == "cancelled":
        return Close(status="cancelled", detail="the run was cancelled; `llmops retry` starts it again")
    if not is_newest:
        return Close(status="superseded", detail="its run ended early and a newer commit has been planned since")
    how = "was never launched" if run == "missing" else "ended without an outcome"
    if request.tries >= MAX_TRIES:
        return Close(
            status="failed",
            detail=f"{request.tries} runs {how}; mend the cause, then `llmops retry` starts afresh",
        )
    return Again(generation=request.generation + 1, reason=f"generation {request.generation} {how}")
