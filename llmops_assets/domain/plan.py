"""The plan of a revision: per stage run, reuse, refuse or decide later, with reasons and key. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from llmops_assets.domain.chain import CHAIN, COMPARED, STAGES, Stage, downstream_of
from llmops_assets.domain.config_diff import describe
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import (
    ContainerImage,
    EvaluationReport,
    QuantizedArtifact,
    Record,
    ServedEvaluationReport,
    named_outputs,
)
from llmops_assets.domain.release import release_of
from llmops_assets.domain.verdict import Verdict

Action = Literal["run", "reuse", "decide_later", "refuse", "skip"]
"""refuse: a verdict on existing evidence fails. A run still selects the stage, so that it judges again and refuses.
skip: not part of the run, because the watched branch does not contain the revision."""
Find = Callable[[str], Record | None]
"""The record committed under a key, or None."""
SaltOf = Callable[[str], str | None]
Judge = Callable[[str], Verdict | None]
"""The verdict on a stage's existing record; None if it is not known before the run."""


class StagePlan(Frozen):
    stage: str
    action: Action
    reasons: tuple[str, ...]
    key: str | None = None
    judge_again: bool = False
    """Reused, but selected anyway: gates changed, so the report needs a new verdict, or the champion must be measured
    on the same rows first."""
    measures_champion: bool = False
    """Reused, but the champion is measured on the same rows first."""

    @property
    def computes(self) -> bool:
        """Whether a run computes something for it, or may."""
        return self.action in ("run", "decide_later") or self.measures_champion


class Plan(Frozen):
    project: str
    revision: str
    base: str | None
    stages: tuple[StagePlan, ...]
    policy: tuple[str, ...] = ()
    """What applies from the settings' floor, and what the revision loosens compared with the champion."""

    def __getitem__(self, stage: str) -> StagePlan:
        return next(s for s in self.stages if s.stage == stage)

    @property
    def to_materialize(self) -> tuple[str, ...]:
        """The stages that a run selects: all except those that are skipped, or reused without a new verdict."""
        return tuple(s.stage for s in self.stages if s.action not in ("reuse", "skip") or s.judge_again)

    @property
    def evaluates_only(self) -> str | None:
        """Why a run of this revision deploys nothing; None if it may."""
        return next((s.reasons[0] for s in self.stages if s.action == "skip"), None)

    @property
    def nothing_to_do(self) -> bool:
        return not self.to_materialize


_JUDGED_BY: Mapping[type[Record], str] = {
    EvaluationReport: "gates", ServedEvaluationReport: "gates", ContainerImage: "image.scan",
}  # fmt: skip
"""Record → the value that decides about its verdict, and is no part of its key."""


class Side(Frozen):
    """A revision as input of a plan: its resolved values and the known outputs of its records."""

    revision: str
    values: dict[str, Any]
    outputs: dict[str, str] = Field(default_factory=dict)


def make_plan(
    project: str,
    head: Side,
    find: Find,
    base: Side | None = None,
    serving: str | None = None,
    salt_of: SaltOf = lambda key: None,
    held: Mapping[str, str] | None = None,
    lost: Mapping[str, str] | None = None,
    judge: Judge = lambda stage: None,
    lacks_comparison: Callable[[str], bool] = lambda stage: False,
    elsewhere: str | None = None,
    review: Callable[[bool], str | None] = lambda known: None,
) -> Plan:
    """Plans a revision, in one pass over the chain.

    Args:
        head: the revision to plan; its `outputs` are ignored, since `find` looks them up.
        find: looks a record up by key.
        base: the revision to compare with in the reasons; None at a project's first run.
        serving: digest of the release that production serves.
        salt_of: the salt of a deliberate rebuild of an (unsalted) key, or None.
        held: releases that are not deployed automatically, each with the message to show.
        lost: keys whose record `find` omits because it is no longer usable, each with the message to show.
        judge: evaluates the verdict on a reused stage's record, for the stages that require it.
        lacks_comparison: whether a gate on this report needs a report of the champion that does not exist yet.
        elsewhere: why the revision is not deployed, if the watched branch does not contain it.
        review: whether the evaluation report is known → what its review lacks; None if no review is missing.
    """
    outputs: dict[str, str] = {}
    plans: list[StagePlan] = []
    release: str | None = None
    for stage in CHAIN:
        if stage.kind == "event" and elsewhere:
            plans.append(StagePlan(stage=stage.name, action="skip", reasons=(elsewhere,)))
            continue
        if stage.kind == "event":
            plans.append(_event(stage, release, serving, held or {}))
            continue
        unknown = [r for r in stage.reads(head.values) if r not in outputs]
        if unknown:
            names = ", ".join(dict.fromkeys(r.split(".")[0] for r in unknown))
            plans.append(
                StagePlan(stage=stage.name, action="decide_later", reasons=(f"depends on the result of {names}",))
            )
            continue
        salt = salt_of(stage.key(head.values, outputs))
        key = stage.key(head.values, outputs, salt)
        record = find(key)
        if record is not None:
            outputs |= named_outputs(record)
            if isinstance(record, QuantizedArtifact):
                release = release_of(project, head.values, record).digest
            reasons: tuple[str, ...] = (f"made by {short(record.made_by.revision)}; its inputs have not changed",)
            judged_by = _JUDGED_BY.get(type(record))
            again = bool(judged_by and base and base.values.get(judged_by) != head.values.get(judged_by))
            reasons += (f"{judged_by} changed: new verdict on the existing report",) if again else ()
            plans.append(StagePlan(stage=stage.name, action="reuse", reasons=reasons, key=key, judge_again=again))
        else:
            reasons = _why(stage, head, outputs, base, salt)
            if lost and key in lost:
                reasons = (f"{lost[key]}; it is recomputed",)
            plans.append(StagePlan(stage=stage.name, action="run", reasons=reasons, key=key))
    plans = _judged(_reviewed(plans, review, deployable=release is None or release != serving), judge, lacks_comparison)
    return Plan(project=project, revision=head.revision, base=base.revision if base else None, stages=tuple(plans))


def _reviewed(plans: Sequence[StagePlan], review: Callable[[bool], str | None], deployable: bool) -> list[StagePlan]:
    """The plan in which an existing registration acts again if its report lacks a review, and something depends on it.

    Not if production does not change: other metrics alone need no review. If the registration then waits,
    everything after it must be skipped: so what only passes it on is selected too. A commit outside of the watched
    branch has no endpoint that would ask: its evaluation as served does, so it waits for the same review.

    Args:
        deployable: whether the revision's release may be another than the one that production serves.
    """
    found = {plan.stage: plan for plan in plans}
    acts: tuple[str, ...] = ("registered_model", "quantized_artifact", "staging_endpoint", "production_endpoint")
    if deployable and found["production_endpoint"].action == "skip":
        acts = (*acts, "served_evaluation_report")
    after = [name for name in acts if found[name].action in ("run", "decide_later")]
    missing = review(found["evaluation_report"].action == "reuse") if after else None
    if missing is None:
        return list(plans)
    for name in ("registered_model", "quantized_artifact"):
        plan = found[name]
        reasons = (*plan.reasons, missing) if name == "registered_model" else plan.reasons
        again = plan.judge_again or plan.action == "reuse"
        found[name] = plan.model_copy(update={"judge_again": again, "reasons": reasons})
    return list(found.values())


def _judged(plans: Sequence[StagePlan], judge: Judge, lacks_comparison: Callable[[str], bool]) -> list[StagePlan]:
    """The plan with the refusals that existing evidence already implies, and the comparisons that it still needs."""
    found = {plan.stage: plan for plan in plans}
    for stage in (STAGES[plan.stage] for plan in plans if plan.action in ("run", "decide_later")):
        reasons = {up: f"{up} refuses" for up in stage.upstream if found[up].action == "refuse"}
        for up in stage.requires:
            if found[up].action != "reuse" or STAGES[up].kind == "event":
                continue
            if up in COMPARED and lacks_comparison(up):
                more = (*found[up].reasons, "the champion is measured on the same rows first")
                found[up] = found[up].model_copy(
                    update={"judge_again": True, "measures_champion": True, "reasons": more}
                )
            elif (verdict := judge(up)) is not None:
                for text in verdict.against:
                    reasons.setdefault(text, f"{up}: {text}")
        if reasons:
            update = {"action": "refuse", "reasons": tuple(reasons.values())}
            found[stage.name] = found[stage.name].model_copy(update=update)
    return [found[plan.stage] for plan in plans]


def _event(stage: Stage, release: str | None, serving: str | None, held: Mapping[str, str]) -> StagePlan:
    if release is None:
        return StagePlan(
            stage=stage.name, action="decide_later", reasons=("depends on the result of quantized_artifact",)
        )
    if release == serving:
        return StagePlan(
            stage=stage.name, action="reuse", reasons=(f"production already serves this release ({short(release)})",)
        )
    if release in held:
        return StagePlan(stage=stage.name, action="reuse", reasons=(f"production stays unchanged: {held[release]}",))
    instead = f"production serves {short(serving)}" if serving else "production serves nothing yet"
    return StagePlan(stage=stage.name, action="run", reasons=(f"release {short(release)}; {instead}",))


def _why(stage: Stage, head: Side, outputs: Mapping[str, str], base: Side | None, salt: str | None) -> tuple[str, ...]:
    if salt:
        return (f"rebuild requested: {salt}",)
    if base is None:
        return ("first run of this project",)
    reasons = [
        describe(v, base.values.get(v), head.values.get(v))
        for v in stage.values
        if base.values.get(v) != head.values.get(v)
    ]
    for name in stage.reads(head.values):
        if name in base.outputs and base.outputs[name] != outputs[name]:
            reasons.append(f"{name} changed")
    if not reasons:
        reasons.append(f"no result exists for its inputs ({short(base.revision)} did not compute it either)")
    return tuple(reasons)


def prompt_retrains(values: Mapping[str, Any], plan: Plan) -> str | None:
    """A hint if a serving prompt change retrains only because no training prompt is set."""
    train = plan["fine_tuned_checkpoint"]
    if (
        train.action == "run"
        and any(r.startswith("training.prompt") for r in train.reasons)
        and not values.get("training.prompt.own")
    ):
        return "the serving prompt is also the training prompt; set training.prompt to change one without the other"
    return None


__all__ = ["Action", "Plan", "Side", "StagePlan", "downstream_of", "make_plan", "prompt_retrains"]
