"""What a person's word is worth: bound to what it was given for, expiring, never an author's own. Pure.

Who somebody is, is taken as given: a local name is not authentication. What is asked and what was decided comes from
the ledger; how a release waits, and how it goes on, belongs elsewhere.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen

CLOCK_SKEW_S = 300.0
"""How far another machine's clock may be ahead. Beyond that nobody can say when a decision expires."""
Choice = Literal["approved", "rejected"]


class Ask(Frozen):
    """What a person is asked. An approval counts for exactly this, and for nothing that differs from it."""

    project: str
    release: str
    environment: str = "production"
    reports: tuple[str, ...] = Field(description="Digests of the reports that stand behind the release.")
    replaces: str | None = Field(description="The champion that it would replace; None if there is none.")
    since: float | None = Field(
        default=None,
        description="When the champion came: once a release was rolled back, its old approval does not bring it back.",
    )


class Decision(Frozen):
    """A person's word on an ask."""

    ask: Ask
    revision: str
    choice: Choice
    by: str
    reason: str
    at: float = Field(description="Epoch seconds.")


class Author(Frozen):
    """Who wrote a commit, as Git tells."""

    name: str
    email: str


class Rules(Frozen):
    """`deployment.approval`, as far as it judges a person's word."""

    approvers: tuple[str, ...] = ()
    expires_after: float = 7 * 86400.0


class Approved(Frozen):
    decision: Decision


class Waiting(Frozen):
    reasons: tuple[str, ...] = Field(default=(), description="Why the decisions that there are do not count.")


def person(name: str) -> str:
    """A name as it is compared: the e-mail of "Ada <ada@example.com>", without regard to case."""
    found = re.search(r"<([^<>]+)>\s*$", name)
    return (found[1] if found else name).strip().casefold()


def is_author(who: str, authors: Iterable[Author]) -> bool:
    """Whether somebody is one of these authors. A name without @ is compared with names and mailboxes too."""
    me = person(who)
    for author in authors:
        email = author.email.strip().casefold()
        known = {email} if "@" in me else {email, email.split("@")[0], author.name.strip().casefold()}
        if me in known:
            return True
    return False


def refusals(choice: Choice, who: str, rules: Rules, authors: Iterable[Author]) -> tuple[str, ...]:
    """Why this person may not decide so, all of it; empty if they may. An author may withdraw what they wrote."""
    me = person(who)
    if not me:
        return ("nobody says who decides: set LLMOPS_USER, or `git config user.email`",)
    author = is_author(who, authors)
    if choice == "rejected" and author:
        return ()
    found = []
    if author:
        found.append(f"{me} is an author of this change; another person must look at it")
    if rules.approvers and me not in {person(a) for a in rules.approvers}:
        found.append(f"{me} is not among the approvers that llmops.yaml names ({', '.join(rules.approvers)})")
    return tuple(found)


def evaluate_approvals(
    ask: Ask, decisions: Sequence[Decision], rules: Rules, authors: Sequence[Author], now: float
) -> Approved | Waiting:
    """Whether a release is approved now.

    Args:
        decisions: those on this release, oldest first. A rejection takes back every approval before it.
    """
    reasons: list[str] = []
    for decision in reversed(decisions):
        who = f"{decision.choice} by {decision.by}"
        if differs := _differs(decision.ask, ask):
            reasons.append(f"{who}, but {differs}")
        elif decision.choice == "rejected":
            reasons.append(f"{who}: {decision.reason}")
            break
        elif worthless := _worthless(decision, rules, authors, now):
            reasons.append(f"{who}, but {worthless}")
        else:
            return Approved(decision=decision)
    return Waiting(reasons=tuple(dict.fromkeys(reasons)))


def _differs(given: Ask, ask: Ask) -> str:
    parts = []
    if (given.project, given.release) != (ask.project, ask.release):
        parts.append(f"it was given for release {short(given.release)} of {given.project}")
    if given.environment != ask.environment:
        parts.append(f"it was given for {given.environment}")
    if given.reports != ask.reports:
        parts.append("the reports changed since")
    if given.replaces != ask.replaces:
        was, now = short(given.replaces or "nothing"), short(ask.replaces or "nothing")
        parts.append(f"it was given against {was}, and {ask.environment} serves {now} now")
    elif given.since != ask.since:
        parts.append(f"{ask.environment} changed since, and came back to {short(ask.replaces or 'nothing')}")
    return "; ".join(parts)


def _worthless(decision: Decision, rules: Rules, authors: Sequence[Author], now: float) -> str:
    age = now - decision.at
    if age > rules.expires_after:
        return f"that expired {_ago(age - rules.expires_after)} ago"
    if age < -CLOCK_SKEW_S:
        return "that lies in the future, so nobody can say when it expires; a clock is wrong"
    return "; ".join(refusals("approved", decision.by, rules, authors))


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
