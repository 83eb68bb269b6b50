"""The floor under every commit's policy: the settings hold it, and llmops.yaml can tighten it only. Pure."""

from pydantic import Field

from llmops_assets.domain.approval import Approval
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.models import Strict
from llmops_assets.domain.policy import (
    REMOVED,
    Policy,
    lasting,
    loosened_analysis,
    loosened_gates,
    metrics_of,
    without,
)
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


class PolicyFloor(Strict):
    """Policy that llmops.yaml can tighten, but neither drop nor loosen. It applies where llmops.yaml is silent too."""

    gates: tuple[Gate, ...] = Field(
        default=(), description="Conditions for a model to proceed, beside those of the project."
    )
    approval: FloorApproval = Field(
        default=FloorApproval(), description="Who must approve a release before production."
    )
    analysis: tuple[Analysis, ...] = Field(
        default=(), description="Conditions for each step of a rollout, beside those of the project."
    )
    min_samples: int | None = Field(default=None, ge=1, description="Answers required at each step, at least.")


def with_floor(policy: Policy, floor: PolicyFloor) -> Policy:
    """The policy that applies: the stricter of both in each part."""
    stated, least = policy.approval, floor.approval
    refused = set(without(stated.approvers, least.approvers)) if least.approvers else set()
    allowed = tuple(a for a in stated.approvers if a not in refused)
    longest = stated.expires_after if least.expires_after is None else min(stated.expires_after, least.expires_after)
    approval = Approval(
        required=True if least.required or least.approvers else stated.required,
        approvers=allowed or least.approvers,
        expires_after=longest,
    )
    rollout = policy.rollout.model_copy(
        update={
            "analysis": tuple(dict.fromkeys((*policy.rollout.analysis, *floor.analysis))),
            "min_samples": max(policy.rollout.min_samples, floor.min_samples or 1),
        }
    )
    gates = tuple(dict.fromkeys((*policy.gates, *floor.gates)))
    return policy.model_copy(update={"gates": gates, "approval": approval, "rollout": rollout})


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


def floor_in_words(floor: PolicyFloor) -> tuple[str, ...]:
    """Each condition of the floor as text."""
    least, found = floor.approval, [f"gate {gate}" for gate in floor.gates]
    if least.required or least.approvers:
        found.append("approval by " + (f"one of {', '.join(least.approvers)}" if least.approvers else "a person"))
    if least.expires_after is not None:
        found.append(f"approvals expire after {lasting(least.expires_after)}")
    for rule in floor.analysis:
        bounds = [f"at most {rule.at_most:g}"] if rule.at_most is not None else []
        bounds += [f"no worse than {rule.no_worse_than} (margin {rule.margin:g})"] if rule.no_worse_than else []
        found.append(f"rollout: {rule.metric} {' and '.join(bounds)}")
    if floor.min_samples is not None:
        found.append(f"rollout: at least {floor.min_samples} answers at each step")
    return tuple(found)
