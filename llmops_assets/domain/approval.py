"""Validates approval decisions: bound to one release and its evidence, expiring, never by an author. Pure.

Names are trusted as given: a local name is not authentication. The ledger supplies asks and decisions;
`llmops_assets.delivery.approvals` makes a release wait and resumes it.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from llmops_assets.domain.formatting import ago
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen, Strict
from llmops_assets.domain.rollout import Duration

CLOCK_SKEW_S = 300.0
"""How far another machine's clock may be ahead. Beyond that, a decision's expiry is unknown."""
Choice = Literal["approved", "rejected"]


class Approval(Strict):
    required: bool | None = Field(
        default=None, description="Whether a person must approve each release; None: only if there are approvers."
    )
    approvers: tuple[str, ...] = Field(
        default=(), description="E-mail addresses of the approvers; empty: everyone except the authors of the change."
    )
    expires_after: Duration = Field(
        default=7 * 86400.0, gt=0, description="How long an approval is valid that has not led to a release: 7d."
    )

    @property
    def needed(self) -> bool:
        return bool(self.approvers) if self.required is None else self.required


class Ask(Frozen):
    """What an approver is asked. An approval is valid only for exactly this ask."""

    project: str
    release: str
    environment: str = "production"
    reports: tuple[str, ...] = Field(description="Digests of the reports that the release is based on.")
    replaces: str | None = Field(description="The champion that the release would replace; None if there is none.")
    since: float | None = Field(
        default=None,
        description="When the champion started serving: a rollback invalidates approvals given before it.",
    )
    loosened: tuple[str, ...] = Field(
        default=(), description="What the policy of its commit asks for less than the champion's."
    )


class PersonsDecision(Frozen):
    """Who decided what, when and why. Each kind of decision adds what was asked."""

    choice: Choice
    by: str
    reason: str
    at: float = Field(description="Epoch seconds.")


class Decision(PersonsDecision):
    """An approver's decision on an ask."""

    ask: Ask
    revision: str


class Author(Frozen):
    """A commit's author, as recorded by Git."""

    name: str
    email: str


class Rules(Frozen):
    """The part of `deployment.approval` that decides whether a decision is valid."""

    key: str = Field(default="deployment.approval", description="The key that states them, for messages.")
    approvers: tuple[str, ...] = ()
    expires_after: float = 7 * 86400.0
    where: str = Field(default="llmops.yaml", description="Where the approvers are named, for messages.")


class Approved(Frozen):
    decision: Decision


class Waiting(Frozen):
    reasons: tuple[str, ...] = Field(default=(), description="Why the existing decisions are not valid.")
    rejected: bool = Field(default=False, description="A person rejected exactly this, and nobody approved it since.")


def person(name: str) -> str:
    """A name in comparable form: the e-mail of "Ada <ada@example.com>", case-folded, without invisible characters."""
    found = re.search(r"<([^<>]+)>\s*$", name)
    return _comparable(found[1] if found else name)


def _comparable(name: str) -> str:
    """Other spellings of the same letters are the same name: full-width, composed or not, with a zero-width space."""
    seen = (c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) not in ("Cf", "Cc"))
    return unicodedata.normalize("NFKC", "".join(seen).strip().casefold())


def spelled(name: str) -> str:
    """A name for a message; letters outside of ASCII are named, for some look like one of ASCII."""
    if name.isascii():
        return name
    letters = dict.fromkeys(unicodedata.name(c, f"U+{ord(c):04X}").lower() for c in name if not c.isascii())
    return f"{name} (with {', '.join(letters)})"


def is_author(who: str, authors: Iterable[Author]) -> bool:
    """Whether this person is one of the authors. A name without @ is also compared with names and mailbox names."""
    me = person(who)
    for author in authors:
        email = _comparable(author.email)
        known = {email} if "@" in me else {email, email.split("@")[0], _comparable(author.name)}
        if me in known:
            return True
    return False


def refusals(choice: Choice, who: str, rules: Rules, authors: Iterable[Author]) -> tuple[str, ...]:
    """All reasons why this person may not decide so; empty if they may. Authors may reject their own change."""
    me = person(who)
    if not me:
        return ("no user name: set LLMOPS_USER, or `git config user.email`",)
    author = is_author(who, authors)
    if choice == "rejected" and author:
        return ()
    found = []
    if author:
        found.append(f"{me} is an author of this change; another person must approve it")
    if rules.approvers and me not in {person(a) for a in rules.approvers}:
        found.append(f"{me} is not in {rules.key}.approvers of {rules.where} ({', '.join(rules.approvers)})")
    return tuple(found)


def evaluate_approvals(
    ask: Ask, decisions: Sequence[Decision], rules: Rules, authors: Sequence[Author], now: float
) -> Approved | Waiting:
    """Whether a release is approved now.

    Args:
        decisions: the decisions on this release, oldest first. A rejection revokes every earlier approval.
    """
    reasons: list[str] = []
    rejected = False
    for decision in reversed(decisions):
        who = f"{decision.choice} by {decision.by}"
        if differs := _differs(decision.ask, ask):
            reasons.append(f"{who}, not valid: {differs}")
        elif decision.choice == "rejected":
            reasons.append(f"{who}: {decision.reason}")
            rejected = True
            break
        elif problem := problem_of(decision.by, decision.at, rules, authors, now):
            reasons.append(f"{who}, not valid: {problem}")
        else:
            return Approved(decision=decision)
    return Waiting(reasons=tuple(dict.fromkeys(reasons)), rejected=rejected)


def _differs(given: Ask, ask: Ask) -> str:
    parts = []
    if (given.project, given.release) != (ask.project, ask.release):
        parts.append(f"it was given for release {short(given.release)} of {given.project}")
    if given.environment != ask.environment:
        parts.append(f"it was given for {given.environment}")
    if given.reports != ask.reports:
        parts.append("the reports have changed since")
    if given.loosened != ask.loosened:
        parts.append("what it loosens of the policy has changed since")
    if given.replaces != ask.replaces:
        was, now = short(given.replaces or "nothing"), short(ask.replaces or "nothing")
        parts.append(f"it was given to replace {was}, but {ask.environment} now serves {now}")
    elif given.since != ask.since:
        parts.append(f"{ask.environment} has changed since, and serves {short(ask.replaces or 'nothing')} again")
    return "; ".join(parts)


def problem_of(by: str, at: float, rules: Rules, authors: Sequence[Author], now: float) -> str:
    """Why an approval that this person gave then is not valid now; empty if it is."""
    age = now - at
    if age > rules.expires_after:
        return f"it expired {ago(age - rules.expires_after)} ago"
    if age < -CLOCK_SKEW_S:
        return "its time is in the future, so its expiry is unknown; check the machines' clocks"
    return "; ".join(refusals("approved", by, rules, authors))
