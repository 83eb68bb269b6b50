"""The floor under every commit's policy: the settings hold it, and llmops.yaml can tighten it only. Pure."""

from pydantic import Field, model_validator

from llmops_assets.domain.approval import Approval, person
from llmops_assets.domain.budget import Budget, stricter_budget
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.images import ImageFloor, image_below_floor, image_floor_in_words, stricter_image
from llmops_assets.domain.licences import LicenceFloor, beyond, stricter_licences
from llmops_assets.domain.models import Strict, WrongAt
from llmops_assets.domain.policy import (
    REMOVED,
    Policy,
    lasting,
    loosened_analysis,
    loosened_gates,
    metrics_of,
    without,
)
from llmops_assets.domain.report_review import Review
from llmops_assets.domain.rollout import Analysis, Duration


class FloorApproval(Strict):
    """The least that every release of a project needs from people."""

    required: bool = Field(default=False, description="A person must approve each release; implied by `approvers`.")
    approvers: tuple[str, ...] = Field(
        default=(), description="E-mail addresses; llmops.yaml may name some of them, and no others."
    )
    expires_after: Duration | None = Field(
        default=None, gt=0, description="The longest time that an approval may be valid: 7d."
    )


class FloorReview(Strict):
    """The least that every model of a project needs from people before it is registered."""

    required: bool = Field(
        default=False, description="People must accept each evaluation report; implied by `approvers` and `count`."
    )
    approvers: tuple[str, ...] = Field(
        default=(), description="E-mail addresses; llmops.yaml may name some of them, and no others."
    )
    count: int | None = Field(default=None, ge=1, le=20, description="How many people must accept it, at least.")
    expires_after: Duration | None = Field(
        default=None, gt=0, description="The longest time that a review may be valid: 7d."
    )

    @model_validator(mode="after")
    def _enough(self) -> "FloorReview":
        people = len({person(name) for name in self.approvers})
        if people and people < (self.count or 1):
            raise WrongAt(f"is {self.count}, but approvers names {people}; lower it, or name more", "count")
        return self

    @property
    def needed(self) -> bool:
        return self.required or bool(self.approvers) or self.count is not None


class PolicyFloor(Strict):
    """Policy that llmops.yaml can tighten but not drop or loosen. It also applies where llmops.yaml says nothing."""

    gates: tuple[Gate, ...] = Field(
        default=(), description="Conditions for a model to proceed, beside those of the project."
    )
    approval: FloorApproval = Field(
        default=FloorApproval(), description="Who must approve a release before production."
    )
    review: FloorReview = Field(
        default=FloorReview(), description="Who must accept an evaluation report before its model is registered."
    )
    analysis: tuple[Analysis, ...] = Field(
        default=(), description="Conditions for each step of a rollout, beside those of the project."
    )
    min_samples: int | None = Field(default=None, ge=1, description="Answers required at each step, at least.")
    budget: Budget = Field(
        default=Budget(), description="What computing may cost each project at most; a run over it waits for a person."
    )
    licences: LicenceFloor = Field(
        default=LicenceFloor(), description="Which licences the base model and the locked packages may have."
    )
    image: ImageFloor = Field(
        default=ImageFloor(), description="Which vulnerabilities fail the image of every project that has one."
    )


def with_floor(policy: Policy, floor: PolicyFloor) -> Policy:
    """The policy that applies: the stricter of both in each part."""
    stated, least = policy.approval, floor.approval
    approval = Approval(
        required=True if least.required or least.approvers else stated.required,
        approvers=_allowed(stated.approvers, least.approvers),
        expires_after=_shorter(stated.expires_after, least.expires_after),
    )
    rollout = policy.rollout.model_copy(
        update={
            "analysis": tuple(dict.fromkeys((*policy.rollout.analysis, *floor.analysis))),
            "min_samples": max(policy.rollout.min_samples, floor.min_samples or 1),
        }
    )
    gates = tuple(dict.fromkeys((*policy.gates, *floor.gates)))
    review = _review_with_floor(policy.review, floor.review)
    budget = stricter_budget(policy.budget, floor.budget) if floor.budget != Budget() else policy.budget
    image = stricter_image(policy.image, floor.image)
    licences = stricter_licences(policy.ci.licence_floor, floor.licences)
    ci = policy.ci.model_copy(update={"licence_floor": licences})
    update = {"ci": ci, "gates": gates, "approval": approval, "review": review, "rollout": rollout, "budget": budget}
    return policy.model_copy(update={**update, "image": image})


def _review_with_floor(stated: Review, least: FloorReview) -> Review:
    count = max(stated.count, least.count or 1)
    approvers = _allowed(stated.approvers, least.approvers)
    if least.approvers and len({person(name) for name in approvers}) < count:
        approvers = least.approvers  # too few of those who may review are named: all of them may
    return Review.model_construct(
        # Not validated: fewer people than `count` may be left, and then nothing is registered.
        required=True if least.needed else stated.required,
        approvers=approvers,
        count=count,
        expires_after=_shorter(stated.expires_after, least.expires_after),
    )


def _allowed(stated: tuple[str, ...], least: tuple[str, ...]) -> tuple[str, ...]:
    """The people named who may decide; if none of them may, all who may."""
    refused = set(without(stated, least)) if least else set()
    return tuple(name for name in stated if name not in refused) or least


def _shorter(stated: float, longest: float | None) -> float:
    return stated if longest is None else min(stated, longest)


def below_floor(policy: Policy, floor: PolicyFloor) -> tuple[str, ...]:
    """What llmops.yaml sets below the floor, each with the value that applies instead."""
    found = []
    stated, least = policy.approval, floor.approval
    if (least.required or least.approvers) and stated.required is False:
        found.append("deployment.approval.required is false, but a person must approve each release; remove it")
    if least.approvers and (others := without(stated.approvers, least.approvers)):
        allowed = ", ".join(least.approvers)
        found.append(f"deployment.approval.approvers: {', '.join(others)} may not approve; allowed: {allowed}")
    longest = least.expires_after
    if longest is not None and "expires_after" in stated.model_fields_set and stated.expires_after > longest:
        is_now = lasting(stated.expires_after)
        found.append(f"deployment.approval.expires_after is {is_now}; at most {lasting(longest)} applies")
    found += _review_below_floor(policy.review, floor.review)
    for name, limit in floor.budget.limits.items():
        if (more := policy.budget.limits.get(name)) is not None and more > limit:
            found.append(f"budget.max_cost.{name} is {figure(more)}; at most {figure(limit)} applies")
    if floor.budget.approvers and (others := without(policy.budget.approvers, floor.budget.approvers)):
        allowed = ", ".join(floor.budget.approvers)
        found.append(f"budget.approvers: {', '.join(others)} may not exceed it; allowed: {allowed}")
    if policy.ci.licences and (others := beyond(policy.ci.licences["allow"], floor.licences)):
        allowed = ", ".join(floor.licences.allow or ())
        found.append(f"ci.licences.allow: {', '.join(others)} may not be used; allowed: {allowed}")
    found += image_below_floor(policy.image, floor.image)
    for gate in floor.gates:
        if gate.metric not in metrics_of(policy.evaluation):
            found.append(f"the gate {gate} needs the metric {gate.metric}; add it to evaluation.metrics")
        same = [g for g in policy.gates if (g.metric, g.of) == (gate.metric, gate.of)]
        # A condition that the project does not state is no contradiction: the floor's own applies.
        found += [f"gates: {text}" for text in loosened_gates((gate,), same) if REMOVED not in text]
    stated_rollout, own = policy.rollout, policy.rollout.model_fields_set
    for rule in floor.analysis if "analysis" in own else ():
        rules = [r for r in stated_rollout.analysis if r.metric == rule.metric]
        found += [f"deployment.rollout: {t}" for t in loosened_analysis((rule,), rules) if REMOVED not in t]
    fewest = floor.min_samples
    if fewest is not None and "min_samples" in own and stated_rollout.min_samples < fewest:
        is_now = str(stated_rollout.min_samples)
        found.append(f"deployment.rollout.min_samples is {is_now}; at least {fewest} applies")
    return tuple(found)


def _review_below_floor(stated: Review, least: FloorReview) -> list[str]:
    found = []
    if least.needed and stated.required is False:
        found.append("deployment.review.required is false, but people must accept each evaluation report; remove it")
    if least.approvers and (others := without(stated.approvers, least.approvers)):
        allowed = ", ".join(least.approvers)
        found.append(f"deployment.review.approvers: {', '.join(others)} may not review; allowed: {allowed}")
    if least.count is not None and "count" in stated.model_fields_set and stated.count < least.count:
        found.append(f"deployment.review.count is {stated.count}; at least {least.count} applies")
    named = len({person(name) for name in stated.approvers})
    if named and not least.approvers and named < (least.count or 1):
        found.append(f"deployment.review.approvers names {named}, but {least.count} people must review; name more")
    longest = least.expires_after
    if longest is not None and "expires_after" in stated.model_fields_set and stated.expires_after > longest:
        is_now = lasting(stated.expires_after)
        found.append(f"deployment.review.expires_after is {is_now}; at most {lasting(longest)} applies")
    return found


def floor_in_words(floor: PolicyFloor) -> tuple[str, ...]:
    """Each condition of the floor as text."""
    least, found = floor.approval, [f"gate {gate}" for gate in floor.gates]
    if least.required or least.approvers:
        found.append("approval by " + (f"one of {', '.join(least.approvers)}" if least.approvers else "a person"))
    if least.expires_after is not None:
        found.append(f"approvals expire after {lasting(least.expires_after)}")
    if floor.review.needed:
        count = floor.review.count or 1
        of = f" of {', '.join(floor.review.approvers)}" if floor.review.approvers else ""
        found.append(f"review by {count}{of}" if of or count > 1 else "review by a person")
    if floor.review.expires_after is not None:
        found.append(f"reviews expire after {lasting(floor.review.expires_after)}")
    for rule in floor.analysis:
        bounds = [f"at most {rule.at_most:g}"] if rule.at_most is not None else []
        bounds += [f"no worse than {rule.no_worse_than} (margin {rule.margin:g})"] if rule.no_worse_than else []
        found.append(f"rollout: {rule.metric} {' and '.join(bounds)}")
    for name, limit in floor.budget.limits.items():
        found.append(f"budget.max_cost.{name} at most {figure(limit)}")
    if floor.min_samples is not None:
        found.append(f"rollout: at least {floor.min_samples} answers at each step")
    if floor.licences.allow is not None:
        found.append(f"licences of base model and locked packages: {', '.join(floor.licences.allow)}")
    found += image_floor_in_words(floor.image)
    return tuple(found)
