"""The plan of a revision: per stage run, reuse, or decide later, with reasons and key. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field

from llmops_assets.domain.chain import CHAIN, Stage, downstream_of
from llmops_assets.domain.config_diff import describe
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import Measured, QuantizedArtifact, Record, named_outputs
from llmops_assets.domain.release import release_of

Action = Literal["run", "reuse", "decide_later"]
Find = Callable[[str], Record | None]
"""The record committed under a key, or None."""
SaltOf = Callable[[str], str | None]


class StagePlan(Frozen):
    stage: str
    action: Action
    reasons: tuple[str, ...]
    key: str | None = None
    judge_again: bool = False
    """Reused, but selected anyway because gates changed: the existing report needs a new verdict."""


class Plan(Frozen):
    project: str
    revision: str
    base: str | None
    stages: tuple[StagePlan, ...]

    def __getitem__(self, stage: str) -> StagePlan:
        return next(s for s in self.stages if s.stage == stage)

    @property
    def to_materialize(self) -> tuple[str, ...]:
        """The stages that a run selects: all except those that are reused without a new verdict."""
        return tuple(s.stage for s in self.stages if s.action != "reuse" or s.judge_again)

    @property
    def nothing_to_do(self) -> bool:
        return not self.to_materialize


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
) -> Plan:
    """Walks the chain once.

    Args:
        head: the revision to plan; its `outputs` are ignored, since `find` looks them up.
        find: looks a record up by key.
        base: the revision to compare with in the reasons; None at a project's first run.
        serving: digest of the release that production serves.
        salt_of: the salt of a deliberate rebuild of an (unsalted) key, or None.
        held: releases that are not deployed automatically, each with the message to show.
        lost: keys whose record `find` omits because it is no longer usable, each with the message to show.
    """
    outputs: dict[str, str] = {}
    plans: list[StagePlan] = []
    release: str | None = None
    for stage in CHAIN:
        if stage.kind == "event":
            plans.append(_event(stage, release, serving, held or {}))
            continue
        unknown = [r for r in stage.records if r not in outputs]
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
            again = (
                isinstance(record, Measured)
                and base is not None
                and base.values.get("gates") != head.values.get("gates")
            )
            reasons += ("gates changed: new verdict on the existing report",) if again else ()
            plans.append(StagePlan(stage=stage.name, action="reuse", reasons=reasons, key=key, judge_again=again))
        else:
            reasons = _why(stage, head, outputs, base, salt)
            if lost and key in lost:
                reasons = (f"{lost[key]}; it is recomputed",)
            plans.append(StagePlan(stage=stage.name, action="run", reasons=reasons, key=key))
    return Plan(project=project, revision=head.revision, base=base.revision if base else None, stages=tuple(plans))


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
    for name in stage.records:
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
