"""The conditions that a plan's stages will be asked to meet, as text. Pure."""

from collections.abc import Iterator, Sequence

from llmops_assets.domain.models import Frozen
from llmops_assets.domain.plan import Plan
from llmops_assets.domain.policy import Policy, lasting

_JUDGED_BY = {
    "checkpoint": ("evaluation_report", "registered_model", "staging_endpoint", "production_endpoint"),
    "served": ("served_evaluation_report", "staging_endpoint", "production_endpoint"),
}


class Asked(Frozen):
    """One condition, and where it is judged first."""

    stage: str
    condition: str


def asked(plan: Plan, policy: Policy, approval: str = "", review: str = "") -> tuple[Asked, ...]:
    """Every condition that a stage of this plan judges, in chain order. None if the plan runs nothing.

    Args:
        policy: that of the revision, with the settings' floor.
        approval: who must approve the release; empty: nobody.
        review: who must accept the evaluation report; empty: nobody.
    """
    selected = set(plan.to_materialize)
    found = [*_of_reports(selected, policy, review), *_of_release(selected, policy, approval)]
    return tuple(found)


def _of_reports(selected: set[str], policy: Policy, review: str) -> Iterator[Asked]:
    for check, text in (
        ("ci_report", _ci(policy)),
        ("dataset_version", "schema, empty fields, duplicates, leakage, lengths"),
    ):
        if check in selected:
            yield Asked(stage=check, condition=text)
    for of, judges in _JUDGED_BY.items():
        stage = next((s for s in judges if s in selected), None)
        if stage is None:
            continue
        for gate in policy.gates:
            if gate.of == of:
                yield Asked(stage=stage, condition=f"gate: {gate}")
        if policy.must_pass is not None:
            yield Asked(stage=stage, condition=f"each row of {policy.must_pass.file} must pass, {of}")
        if of == "checkpoint" and review and selected & {"registered_model", "quantized_artifact"}:
            yield Asked(stage="registered_model", condition=f"review: the report is accepted by {review}")
        if of == "served" and "served_evaluation_report" in selected:
            yield Asked(stage=stage, condition="token parity: the engine reads the tokens of training")


def _of_release(selected: set[str], policy: Policy, approval: str) -> Iterator[Asked]:
    if "smoke_test_report" in selected and policy.smoke_tests:
        names = _few([str(test["name"]) for test in policy.smoke_tests])
        yield Asked(stage="smoke_test_report", condition=f"{len(policy.smoke_tests)} smoke tests: {names}")
    if "release_approval" in selected and approval:
        yield Asked(stage="release_approval", condition=f"approval by {approval}")
    if "production_endpoint" not in selected:
        return
    rollout = policy.rollout
    if rollout.strategy == "canary":
        steps = ", ".join(f"{step.weight:.0%} for {lasting(step.hold)}" for step in rollout.steps)
        yield Asked(stage="production_endpoint", condition=f"canary: {steps or 'no steps'}")
    for rule in rollout.analysis:
        bounds = [f"at most {rule.at_most:g}"] if rule.at_most is not None else []
        bounds += [f"no worse than the {rule.no_worse_than} (margin {rule.margin:g})"] if rule.no_worse_than else []
        yield Asked(stage="production_endpoint", condition=f"rollout: {rule.metric} {' and '.join(bounds)}")


def _ci(policy: Policy) -> str:
    parts = [*(["ruff"] if policy.ci.ruff else []), *(["the project's tests"] if policy.ci.tests else [])]
    return ", ".join([*parts, "configuration, prompts"])


def _few(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
