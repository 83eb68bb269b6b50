"""Decides what the bot does about something that has moved outside of the repository. Pure.

Each thing that is watched is a subject: an imported path, or a prompt's alias. A subject has one proposal for each
state that it moves to, and the ledger's row of it is the lock. What a person did with a proposal, merge, change, close
or revert, is never undone: only a new state leads to a new one.
"""

import re
from typing import Literal

from llmops_assets.domain.delivery_attempts import is_due
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.models import Frozen

Status = Literal["begun", "proposed", "unchanged", "refused"]
PREFIX = "llmops/"
"""Of the branches that the bot creates."""


class Proposal(Frozen):
    """A row of the ledger: one state of one subject."""

    row: int
    subject: str
    number: int
    """1, 2, …: of the subject."""
    state: str
    """Digest of what was seen: an upstream's version, a prompt's text."""
    status: Status
    base: str
    """The commit that it was made from; empty until then."""
    revision: str
    """The commit itself; empty until it is pushed."""
    ref: str
    """The branch that it was pushed to."""
    tries: int
    due: float
    """When the next attempt may begin, in epoch seconds."""
    detail: str
    """Why the last attempt failed, or why it is refused."""
    created: float


class Make(Frozen):
    """Make a proposal."""

    new: bool
    """Whether its state has no row yet."""
    number: int
    expected: str = ""
    """The commit of the bot that its branch has, and that may be replaced; empty: the branch does not exist."""
    ref: str = ""


class Leave(Frozen):
    """Do nothing."""

    reason: str


def branch_of(project: str, subject: str) -> str:
    """The branch of a subject's proposals: readable, a valid name for Git, and the subject's own."""
    readable = re.sub(r"[^A-Za-z0-9-]+", "-", subject).strip("-")[:60].rstrip("-")
    return f"{PREFIX}{project}/{readable}-{digest(subject)[:8]}"


def next_step(
    rows: list[Proposal], state: str, ref: str, tip: str | None, changed_since: bool, now: float
) -> Make | Leave:
    """What to do about a subject that has moved to a state which the watched branch does not have.

    Args:
        rows: the subject's, oldest first.
        ref: the branch that it is proposed on.
        tip: the commit that the remote has there; None: no such branch. For the watched branch, None too.
        changed_since: whether the watched branch has changed the proposed file since the newest proposal was made.
    """
    newest = rows[-1] if rows else None
    own = {row.revision for row in rows if row.ref == ref and row.revision}
    number = newest.number + 1 if newest else 1
    if newest is not None and newest.state == state:
        number = newest.number
        what = f"{newest.subject}: {short(newest.revision)}"
        match newest.status:
            case "refused":
                return Leave(reason=f"{newest.subject}: refused: {newest.detail}")
            case "unchanged":
                return Leave(reason=f"{newest.subject}: this state was in the branch already, or has the same content")
            case "proposed" if tip is None:
                return Leave(reason=f"{what} was proposed; it is not proposed again")
            case "proposed" if tip != newest.revision or newest.ref != ref:
                return Leave(reason=f"{what} was proposed on {newest.ref}, and others have committed there since")
            case "proposed" if not changed_since:
                return Leave(reason=f"{what} waits on {newest.ref} for a person to merge it")
            case "begun" if not is_due(newest.due, now):
                return Leave(reason=f"{newest.subject}: {newest.detail or 'another process is making the proposal'}")
    if tip is not None and tip not in own:  # a person's commits: they stay, and the proposal gets another branch
        return Make(new=newest is None or newest.state != state, number=number, ref=f"{ref}-{number}")
    return Make(new=newest is None or newest.state != state, number=number, expected=tip or "", ref=ref)
