"""Validates reviews: people's decisions on an evaluation report, before its model is registered. Pure.

The rules are those of approvals (`llmops_assets.domain.approval`), with two differences. Several people may be needed.
And a review that led to a registration stays valid for the same report and checkpoint: a later commit that reuses both
needs no new one. The ledger supplies the decisions; `llmops_assets.delivery.report_reviews` makes a model wait and
resumes it. What a reviewer reads is in `llmops_assets.domain.review`.
"""

from collections.abc import Sequence

from pydantic import Field, model_validator

from llmops_assets.domain.approval import Author, PersonsDecision, Rules, Waiting, person, problem_of, refusals
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen, Strict, WrongAt
from llmops_assets.domain.rollout import Duration


class Review(Strict):
    """Whether people accept the evaluation report of each model before it is registered."""

    required: bool | None = Field(
        default=None,
        description="Whether people must accept the evaluation report before its model is registered; None: only if "
        "there are approvers, or `count` is above 1.",
    )
    approvers: tuple[str, ...] = Field(
        default=(), description="E-mail addresses of the reviewers; empty: everyone except the authors of the change."
    )
    count: int = Field(default=1, ge=1, le=20, description="How many different people must accept it.")
    expires_after: Duration = Field(
        default=7 * 86400.0, gt=0, description="How long a review is valid that has not led to a registration: 7d."
    )

    @model_validator(mode="after")
    def _enough(self) -> "Review":
        people = {person(name) for name in self.approvers}
        if people and len(people) < self.count:
            raise WrongAt(
                f"is {self.count}, but approvers names {len(people)} "
                f"{'people' if len(people) > 1 else 'person'}; lower it, or name more",
                "count",
            )
        return self

    @property
    def needed(self) -> bool:
        return bool(self.approvers) or self.count > 1 if self.required is None else self.required


class ReviewRules(Rules):
    """The part of `deployment.review` that decides whether a review is valid."""

    key: str = "deployment.review"
    count: int = 1

    @property
    def who(self) -> str:
        """Who must accept, as text."""
        if not self.approvers and self.count == 1:
            return "a person who is no author of the change"
        if not self.approvers:
            return f"{self.count} people who are no authors of the change"
        if len(self.approvers) == self.count:
            return " and ".join(self.approvers)
        return f"{'one' if self.count == 1 else self.count} of {', '.join(self.approvers)}"


class ReviewAsk(Frozen):
    """What a reviewer is asked: whether this report is good enough to register this checkpoint."""

    project: str
    report: str = Field(description="Digest of the evaluation report.")
    checkpoint: str = Field(description="Digest of the checkpoint that would be registered.")
    loosened: tuple[str, ...] = Field(
        default=(), description="What the policy of its commit asks for less than the champion's."
    )


class ReviewDecision(PersonsDecision):
    """A reviewer's decision."""

    ask: ReviewAsk
    revision: str


class Registration(Frozen):
    """The reviews that led to a registration. They do not expire any more."""

    ask: ReviewAsk
    revision: str
    by: tuple[str, ...] = Field(description="The reviewers.")
    at: float = Field(description="Epoch seconds.")

    def covers(self, decision: ReviewDecision) -> bool:
        reviewers = {person(name) for name in self.by}
        return decision.at <= self.at and person(decision.by) in reviewers and not _differs(decision.ask, self.ask)


class Reviewed(Frozen):
    decisions: tuple[ReviewDecision, ...] = Field(
        default=(), description="The valid reviews, newest first. Empty: none is required."
    )
    registered: bool = Field(default=False, description="Whether they have led to a registration.")

    @property
    def text(self) -> str:
        said = "; ".join(f"reviewed by {d.by}: {d.reason}" for d in reversed(self.decisions))
        return said or "no review is required"


def evaluate_reviews(
    ask: ReviewAsk,
    decisions: Sequence[ReviewDecision],
    registrations: Sequence[Registration],
    rules: ReviewRules,
    authors: Sequence[Author],
    now: float,
) -> Reviewed | Waiting:
    """Whether enough people have accepted a report now.

    Args:
        decisions: the decisions on this report, oldest first. A rejection revokes every earlier review.
        registrations: of models on this report. A review that led to one neither expires, nor becomes invalid because
            a later commit by its reviewer reuses the report.
    """
    reasons: list[str] = []
    given: dict[str, ReviewDecision] = {}
    covered: set[str] = set()
    rejected = False
    for decision in reversed(decisions):
        who = f"{decision.choice} by {decision.by}"
        if differs := _differs(decision.ask, ask):
            reasons.append(f"{who}, not valid: {differs}")
        elif decision.choice == "rejected":
            reasons.append(f"{who}: {decision.reason}")
            rejected = not given
            break
        elif any(registration.covers(decision) for registration in registrations):
            if wrong := refusals("approved", decision.by, rules, ()):
                reasons.append(f"{who}, not valid: {'; '.join(wrong)}")
            else:
                given.setdefault(person(decision.by), decision)
                covered.add(person(decision.by))
        elif problem := problem_of(decision.by, decision.at, rules, authors, now):
            reasons.append(f"{who}, not valid: {problem}")
        else:
            given.setdefault(person(decision.by), decision)
    if len(given) >= rules.count:
        return Reviewed(decisions=tuple(given.values()), registered=len(covered) >= rules.count)
    if given:
        names = ", ".join(decision.by for decision in reversed(given.values()))
        reasons.insert(0, f"accepted by {names}: {len(given)} of {rules.count} reviews")
    return Waiting(reasons=tuple(dict.fromkeys(reasons)), rejected=rejected)


def _differs(given: ReviewAsk, ask: ReviewAsk) -> str:
    parts = []
    if (given.project, given.report) != (ask.project, ask.report):
        parts.append(f"it was given for report {short(given.report)} of {given.project}")
    if given.checkpoint != ask.checkpoint:
        parts.append(f"it was given for checkpoint {short(given.checkpoint)}")
    # A review of more covers less: once the commit is the champion, it loosens nothing.
    if more := [text for text in ask.loosened if text not in given.loosened]:
        parts.append(f"the policy was loosened since: {', '.join(more)}")
    return "; ".join(parts)
