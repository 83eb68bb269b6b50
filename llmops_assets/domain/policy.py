"""A release's policy, what it must satisfy before production, and what a commit loosens compared with another. Pure.

`resources.project_source` reads a revision's policy; `llmops_assets.delivery.release_policy` compares it with
the champion's and decides whether a person must approve. The settings' floor is in `llmops_assets.domain.policy_floor`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from pydantic import Field

from llmops_assets.domain.approval import Approval, person, spelled
from llmops_assets.domain.budget import Budget, loosened_budget
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.gate_rule import Gate, Margin
from llmops_assets.domain.images import ImagePolicy, loosened_image
from llmops_assets.domain.licences import LicenceFloor
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.must_pass import MustPassPolicy, loosened_must_pass
from llmops_assets.domain.report_review import Review
from llmops_assets.domain.rollout import Analysis, RolloutPolicy

REMOVED = "removed: "
"""In the text of a condition that is not stated any more, unlike one that is stated and weaker."""


class CiPolicy(Frozen):
    ruff: bool
    tests: bool
    tests_required: bool = False
    secrets: bool = False
    types: bool = False
    licences: dict[str, Any] | None = Field(default=None, description="`allow` and `packages`.")
    licence_floor: LicenceFloor = Field(default=LicenceFloor(), description="The settings'.")
    commands: tuple[dict[str, Any], ...] = Field(default=(), description="Each with its name.")
    ignore: tuple[str, ...]


class Policy(Frozen):
    """What a revision's release must satisfy, and what it is measured with."""

    gates: tuple[Gate, ...]
    approval: Approval
    review: Review = Review()
    rollout: RolloutPolicy
    budget: Budget = Budget()
    smoke_tests: tuple[dict[str, Any], ...]
    test_rows: str = Field(description="Version of the test rows.")
    must_pass: MustPassPolicy | None = None
    evaluation: dict[str, Any] = Field(description="Metrics with their code, and limits, as in the evaluation's key.")
    ci: CiPolicy
    image: ImagePolicy = ImagePolicy()


NO_POLICY = Policy(
    gates=(),
    approval=Approval(),
    rollout=RolloutPolicy(),
    smoke_tests=(),
    test_rows="",
    evaluation={},
    ci=CiPolicy(ruff=False, tests=False, ignore=()),
)
"""Requires only the defaults of a rollout: the policy to which a floor is applied if no commit's policy is known."""


def loosened(before: Policy, after: Policy, measured: bool = True) -> tuple[str, ...]:
    """Each way in which the second policy asks for less than the first, as text; empty if in none.

    Args:
        measured: whether a release was measured under the first, so that other rows or metrics are other evidence.
    """
    if before == after:
        return ()
    return tuple(
        dict.fromkeys(
            (
                *loosened_gates(before.gates, after.gates),
                *(_changed_measurement(before, after) if measured else ()),
                *loosened_must_pass(before.must_pass, after.must_pass),
                *loosened_approval(before.approval, after.approval),
                *loosened_review(before.review, after.review),
                *_changed_smoke_tests(before.smoke_tests, after.smoke_tests),
                *_loosened_rollout(before.rollout, after.rollout),
                *_loosened_ci(before.ci, after.ci),
                *loosened_image(before.image, after.image),
                *loosened_budget(before.budget, after.budget),
            )
        )
    )


def newest_policy(served: Sequence[tuple[str, str]]) -> str | None:
    """The revision whose policy counts beside the champion's: the newest that reached production for the first time.

    A rollback or a redeployment of an older revision does not bring that revision's older policy back into force.

    Args:
        served: (release, revision) of all that production served, oldest first.
    """
    return next((pair[1] for n, pair in reversed(list(enumerate(served))) if pair not in served[:n]), None)


def loosened_gates(before: Iterable[Gate], after: Sequence[Gate]) -> Iterator[str]:
    """How gates were loosened. A bound and its certainty count only if one gate has both."""
    for old in before:
        same = [g for g in after if (g.metric, g.of, g.per) == (old.metric, old.of, old.per)]
        name = f"{old.metric} of {old.of}" + (f" per {old.per}" if old.per else "")
        if old.at_least is not None:
            lower = {g: g.at_least for g in same if g.at_least is not None}
            kept = [g for g, bound in lower.items() if bound >= old.at_least]
            condition = f"{name} at least {figure(old.at_least)}"
            yield from _loosened_bound(condition, old, list(lower.values()), kept, max)
        if old.at_most is not None:
            upper = {g: g.at_most for g in same if g.at_most is not None}
            kept = [g for g, bound in upper.items() if bound <= old.at_most]
            condition = f"{name} at most {figure(old.at_most)}"
            yield from _loosened_bound(condition, old, list(upper.values()), kept, min)
        if old.no_worse_than is not None:
            compared = [g for g in same if (g.no_worse_than, g.baseline) == (old.no_worse_than, old.baseline)]
            allowed, condition = old.tolerance(), f"{name} no worse than {old.against}"
            kept = [g for g in compared if _within(g.tolerance(), allowed)]
            if not compared:
                yield f"gate {REMOVED}{condition}"
            elif not kept:
                margins = ", ".join(str(g.tolerance()) for g in compared)
                yield f"margin widened: {condition} (margin {allowed} → {margins})"
            elif (sure := max(g.certainty for g in kept)) < old.certainty:
                yield f"confidence lowered: {condition} ({old.certainty:.4g} → {sure:.4g})"


def _within(margin: Margin, allowed: Margin) -> bool:
    return (margin.relative == allowed.relative or not margin.value) and margin.value <= allowed.value


def _loosened_bound(
    condition: str, old: Gate, bounds: Sequence[float], kept: Sequence[Gate], strictest: Callable[..., float]
) -> Iterator[str]:
    """How one bound of a gate was loosened.

    Args:
        bounds: those that are stated now, on the same side.
        kept: the gates whose bound is at least as strict as the old one's.
    """
    if not bounds:
        yield f"gate {REMOVED}{condition}"
    elif not kept:
        yield f"gate weakened: {condition} → {figure(strictest(bounds))}"
    elif old.confidence and (sure := max(g.confidence or 0.0 for g in kept)) < old.confidence:
        yield f"confidence lowered: {condition} ({old.confidence:.4g} → {sure or 'the value is judged'})"


def metrics_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Name of each metric → its definition, with the digest of its code if it is the project's own."""
    return {m if isinstance(m, str) else str(m["name"]): m for m in evaluation.get("metrics", ())}


def _changed_measurement(before: Policy, after: Policy) -> Iterator[str]:
    if before.test_rows != after.test_rows:
        yield "test rows changed"
    old, new = metrics_of(before.evaluation), metrics_of(after.evaluation)
    for name, metric in old.items():
        if name not in new:
            yield f"metric removed: {name}"
        elif metric != new[name]:
            yield f"metric changed: {name}"
    for name in sorted({*before.evaluation, *after.evaluation} - {"metrics", "must_pass"}):
        was, now = before.evaluation.get(name, "default"), after.evaluation.get(name, "default")
        if was != now:
            yield f"evaluation.{name} {was} → {now}"


def loosened_approval(before: Approval, after: Approval) -> Iterator[str]:
    if not before.needed:
        return
    if not after.needed:
        yield "approval dropped: no person has to approve"
        return
    yield from _more_people("approvers", before.approvers, after.approvers)
    if after.expires_after > before.expires_after:
        yield f"approvals expire later: {lasting(before.expires_after)} → {lasting(after.expires_after)}"


def loosened_review(before: Review, after: Review) -> Iterator[str]:
    if not before.needed:
        return
    if not after.needed:
        yield "review dropped: no person has to accept the evaluation report"
        return
    yield from _more_people("reviewers", before.approvers, after.approvers)
    if after.count < before.count:
        yield f"fewer reviews: {before.count} → {after.count}"
    if after.expires_after > before.expires_after:
        yield f"reviews expire later: {lasting(before.expires_after)} → {lasting(after.expires_after)}"


def _more_people(name: str, before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    if before and not after:
        yield f"{name} widened: {', '.join(before)} → anyone except the authors"
    elif others := without(after, before) if before else ():
        yield f"{name} widened: {', '.join(map(spelled, others))} added"


def _changed_smoke_tests(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    names = {str(test["name"]) for test in after}
    for test in before:
        if test not in after:
            yield f"smoke test {'changed' if str(test['name']) in names else 'removed'}: {test['name']}"


def _loosened_rollout(before: RolloutPolicy, after: RolloutPolicy) -> Iterator[str]:
    yield from loosened_analysis(before.analysis, after.analysis)
    if after.min_samples < before.min_samples:
        yield f"rollout: min_samples {before.min_samples} → {after.min_samples}"
    if after.confidence < before.confidence:
        yield f"rollout: confidence {before.confidence:.3g} → {after.confidence:.3g}"
    if (before.strategy, after.strategy) == ("canary", "all_at_once"):
        yield "rollout: strategy canary → all_at_once"
        return
    if after.steps != before.steps and after.strategy == "canary":
        yield from _loosened_steps(before, after)


def _loosened_steps(before: RolloutPolicy, after: RolloutPolicy) -> Iterator[str]:
    for step in before.steps:
        was, now = (sum(s.hold for s in p.steps if s.weight <= step.weight) for p in (before, after))
        if now < was:
            yield f"rollout: the candidate is held at up to {step.weight:.0%} for less time, {was:g} s → {now:g} s"
            break
    largest = [_largest_increase(policy) for policy in (before, after)]
    if largest[1] > largest[0]:
        yield "rollout: the largest increase of traffic is {:.0%} → {:.0%}".format(*largest)


def _largest_increase(policy: RolloutPolicy) -> float:
    """The share of traffic that moves at once, at most."""
    weights = [0.0, *(step.weight for step in policy.steps), 1.0]
    return round(max(after - before for before, after in pairwise(weights)), 9)


def loosened_analysis(before: Iterable[Analysis], after: Sequence[Analysis]) -> Iterator[str]:
    for old in before:
        same = [r for r in after if r.metric == old.metric]
        if old.at_most is not None:
            bounds = [r.at_most for r in same if r.at_most is not None]
            if not bounds:
                yield f"analysis {REMOVED}{old.metric} at most {old.at_most:g}"
            elif min(bounds) > old.at_most:
                yield f"analysis loosened: {old.metric} at most {old.at_most:g} → {min(bounds):g}"
        if old.no_worse_than is not None:
            margins = [r.margin for r in same if r.no_worse_than == old.no_worse_than]
            condition = f"{old.metric} no worse than {old.no_worse_than}"
            if not margins:
                yield f"analysis {REMOVED}{condition}"
            elif min(margins) > old.margin:
                yield f"analysis loosened: {condition} (margin {old.margin:g} → {min(margins):g})"


def _loosened_ci(before: CiPolicy, after: CiPolicy) -> Iterator[str]:
    for name in ("ruff", "tests", "secrets", "types"):
        if getattr(before, name) and not getattr(after, name):
            yield f"ci.{name} switched off"
    if before.tests_required and after.tests and not after.tests_required:
        yield "ci.tests no longer required"
    if before.licences is not None and after.licences is None:
        yield "ci.licences removed"
    elif before.licences is not None and after.licences is not None:
        if more := sorted({*after.licences["allow"]} - {*before.licences["allow"]}):
            yield f"ci.licences.allow widened: {', '.join(more)} added"
        if before.licences["packages"] != after.licences["packages"]:
            yield "ci.licences.packages changed"
    now = {command["name"]: command for command in after.commands}
    for command in before.commands:
        if (same := now.get(command["name"])) != command:
            yield f"ci.commands: {command['name']} {'changed' if same else 'removed'}"
    added = [p for p in after.ignore if p not in before.ignore and not p.startswith("!")]
    lost = [p for p in before.ignore if p not in after.ignore and p.startswith("!")]
    if added or lost:
        yield "ci.ignore widened: " + ", ".join([*(f"{p} added" for p in added), *(f"{p} removed" for p in lost)])
    both = [p for p in before.ignore if p in after.ignore]
    # The last match decides, so order matters if a pattern includes files again.
    if any(p.startswith("!") for p in both) and both != [p for p in after.ignore if p in before.ignore]:
        yield "ci.ignore widened: the order of its patterns changed"


def without(names: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    known = {person(a) for a in allowed}
    return tuple(n for n in names if person(n) not in known)


def lasting(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
