"""A weighted rollout as a pure state machine: state and judgement in, the next state out; and its policy.

`llmops_assets.domain.canary` judges a step. `llmops_assets.delivery.rollout` moves the traffic, waits, measures, and
stores every state before acting on the next, so that an interrupted rollout resumes where it stopped.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from llmops_assets.domain.models import Frozen, Strict, WrongAt, number_or_text

HOLDS, LONGEST_AT_LEAST_S = 3, 120.0
"""A step may take this many holds to be decided, and at least this long for short holds."""
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> object:
    """Parses '250ms', '5s', '2m', '1h', '7d' or a plain number, to seconds."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", value)
        if not found:
            raise ValueError(f"{value!r} is not a duration; use for example 250ms, 5s, 2m, 1h or 7d")
        return float(found[1]) * _SECONDS[found[2]]
    return value


def parse_share(value: object) -> object:
    """Parses '10%' or 0.1, to a share between 0 and 1."""
    if isinstance(value, str):
        try:
            return float(value.strip().removesuffix("%")) / (100 if value.strip().endswith("%") else 1)
        except ValueError as error:
            raise ValueError(f"{value!r} is not a share; use for example 10% or 0.1") from error
    return value


_DURATION_TEXT = r" *\d+(\.\d+)? *(ms|s|m|h|d) *"
_SHARE_TEXT = r" *(100(\.0+)?|\d{1,2}(\.\d+)?) *% *"
_A_DURATION = number_or_text("seconds", _DURATION_TEXT, "5s", "7d", minimum=0)
_A_SHARE = number_or_text("share", _SHARE_TEXT, "10%", minimum=0, maximum=1)
_A_MARGIN = number_or_text("share", _SHARE_TEXT, "2%", minimum=0)
_A_BOUND = number_or_text("share or seconds", f"({_SHARE_TEXT}|{_DURATION_TEXT})", "1%", "5s", minimum=0)
Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0), WithJsonSchema(_A_DURATION)]
Share = Annotated[float, BeforeValidator(parse_share), Field(ge=0, le=1), WithJsonSchema(_A_SHARE)]


def _parse_bound(value: object) -> object:
    if isinstance(value, str):
        return parse_share(value) if value.strip().endswith("%") else parse_duration(value)
    return value


LATENCIES = {"p50_latency": 0.5, "p90_latency": 0.9, "p95_latency": 0.95, "p99_latency": 0.99}
"""Metric → the share of answers that must be faster than its limit."""


class RolloutStep(Strict):
    weight: Share = Field(gt=0, description="Share of production's traffic, for example 10%.")
    hold: Duration = Field(
        default=5.0, description="How long to observe the candidate at this weight at least, for example 5s."
    )


class Analysis(Strict):
    """One condition on a step: at least one of at_most and no_worse_than."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("at_most", "no_worse_than")]}
    )

    metric: Literal[
        "error_rate", "empty_rate", "cut_rate", "p50_latency", "p90_latency", "p95_latency", "p99_latency"
    ] = Field(
        description="Share of failed answers (of the users, as the gateway sees them, and of the probes), of empty "
        "answers, of answers that a limit of the endpoint truncated before evaluation.max_new_tokens (64 if that is "
        "less), or a percentile of latency. What is empty or truncated is known of probes only."
    )
    at_most: Annotated[float, BeforeValidator(_parse_bound), Field(ge=0), WithJsonSchema(_A_BOUND)] | None = Field(
        default=None, description="Upper bound: a share (1%) for rates, a duration (5s) for latency."
    )
    no_worse_than: Literal["champion"] | None = Field(
        default=None, description="Compare with what the champion does at the same time, on traffic and probes."
    )
    margin: Annotated[float, BeforeValidator(parse_share), Field(ge=0), WithJsonSchema(_A_MARGIN)] = Field(
        default=0.0,
        description="Tolerance of no_worse_than, above 0: percentage points for rates, a percentage of the "
        "champion's value for latency.",
    )

    @model_validator(mode="before")
    @classmethod
    def _right_unit(cls, value: Any) -> Any:
        """Rejects `error_rate at_most 5s`, which would mean 500% and could never fail."""
        if isinstance(value, dict) and isinstance(bound := value.get("at_most"), str):
            share, metric = bound.strip().endswith("%"), value.get("metric")
            if metric in LATENCIES and share:
                raise WrongAt(f"{metric} is a duration, such as 5s, not {bound!r}", "at_most")
            if metric not in LATENCIES and not share:
                raise WrongAt(f"{metric} is a share, such as 1%, not {bound!r}", "at_most")
        return value

    @model_validator(mode="after")
    def _can_be_decided(self) -> "Analysis":
        if self.at_most is None and self.no_worse_than is None:
            raise ValueError("a rule needs at_most or no_worse_than")
        if self.metric not in LATENCIES and (self.at_most or 0) > 1:
            raise WrongAt(f"{self.metric} is a share between 0 and 1, such as 1%, not {self.at_most:g}", "at_most")
        if self.no_worse_than and not self.margin:
            raise ValueError("no_worse_than needs a margin above 0, such as 2%: without one no sample can decide it")
        if self.margin and not self.no_worse_than:
            raise WrongAt("it belongs to no_worse_than: champion", "margin")
        if self.metric not in LATENCIES and self.margin > 1:
            raise WrongAt(f"for {self.metric} it is a share between 0 and 1, such as 2%, not {self.margin:g}", "margin")
        return self


class RolloutPolicy(Strict):
    strategy: Literal["canary", "all_at_once"] = Field(
        default="canary", description="Step by step next to the champion, or one observed step at full weight."
    )
    steps: tuple[RolloutStep, ...] = Field(
        default=(RolloutStep(weight=0.1), RolloutStep(weight=0.5)),
        description="Shares of traffic before full weight; they must not decrease.",
    )
    analysis: tuple[Analysis, ...] = Field(
        default=(
            Analysis(metric="error_rate", at_most=0.05),
            Analysis(metric="empty_rate", at_most=0.05),
            Analysis(metric="cut_rate", at_most=0.05),
        ),
        description="Conditions for each step; if one fails, traffic returns to the champion.",
    )
    min_samples: int = Field(
        default=20, ge=1, description="Answers required at each step; with fewer the candidate is not promoted."
    )
    confidence: Share = Field(
        default=0.95,
        ge=0.5,
        le=0.999,
        description="Confidence with which each rule must be decided: at 95%, 59 good answers show a rate of at most "
        "5%, and 299 one of at most 1%.",
    )
    decide_within: Duration | None = Field(
        default=None,
        gt=0,
        description="How long a step may last until each rule is decided; absent: three holds, at least 2m. A "
        "candidate that is then undecided is returned.",
    )

    @model_validator(mode="after")
    def _grows(self) -> "RolloutPolicy":
        weights = [s.weight for s in self.steps]
        if weights != sorted(weights):
            raise WrongAt(f"the weights must not decrease ({', '.join(f'{w:.0%}' for w in weights)})", "steps")
        return self

    def longest(self, hold: float) -> float:
        """Seconds that a step with this hold may last."""
        if self.decide_within is not None:
            return max(hold, self.decide_within)
        return max(HOLDS * hold, LONGEST_AT_LEAST_S)


CUT_HINT = (
    "deployment.serving truncates answers before evaluation.max_new_tokens, the evaluated length: raise its "
    "max_tokens or context_length, or evaluate shorter answers"
)


class ProbeResult(Frozen):
    """The result of one request to the candidate."""

    ok: bool = Field(description="Status 200 and, for a stream, a complete end.")
    empty: bool = False
    cut: bool = Field(
        default=False, description="A limit of the endpoint truncated the answer before the requested tokens."
    )
    latency_s: float = Field(ge=0)


class Judgement(Frozen):
    """What the evidence of a step says so far."""

    status: Literal["passed", "failed", "waiting", "undecided"] = Field(
        description="waiting: observe longer. undecided: not decided in the time that a step may take."
    )
    failures: tuple[str, ...] = Field(default=(), description="What is failed, or undecided at the end.")
    reasons: tuple[str, ...] = Field(default=(), description="What is passed, and on which evidence.")
    open: tuple[str, ...] = Field(default=(), description="What is not decided yet.")
    answers: int = Field(default=0, description="The candidate's answers to users and probes.")


class StepResult(Frozen):
    """What one step of a rollout showed, for people."""

    weight: float
    outcome: Literal["passed", "failed", "undecided", "interrupted"]
    answers: int = 0
    figures: tuple[str, ...] = Field(default=(), description="Each condition with its figures and its limit, as text.")


class RolloutState(Frozen):
    """The state of a rollout. It is stored before anything acts on it."""

    release: str
    replaces: str | None
    weights: tuple[float, ...] = Field(description="The steps as planned at the start; full weight follows them.")
    step: int = 0
    status: Literal["running", "promoted", "returned"] = "running"
    reasons: tuple[str, ...] = ()
    requests: int = 0
    results: tuple[StepResult, ...] = Field(default=(), description="The steps that were judged.")
    owner: str = Field(default="", description="Who may run it: `Request.owner`. Without that request it is abandoned.")

    def returned(self, why: str) -> "RolloutState":
        """This rollout, ended for a reason outside of its figures: its share goes back to the release it replaces."""
        return self.model_copy(update={"status": "returned", "reasons": (why,)})

    @property
    def history(self) -> tuple[StepResult, ...]:
        """All steps so far. A rollout that ended within a step, by a cancellation or a crash, ends with that step."""
        decided = not self.results or self.results[-1].outcome == "passed"
        if self.status != "returned" or not decided:
            return self.results
        return (*self.results, StepResult(weight=self.weights[self.step], outcome="interrupted", figures=self.reasons))

    @property
    def weight(self) -> float:
        """The candidate's share of traffic in this state."""
        if self.status == "promoted":
            return 1.0
        return 0.0 if self.status == "returned" else self.weights[self.step]

    @property
    def traffic(self) -> dict[str, float]:
        """Production's traffic in this state: release → share.

        A project's first release has none before it is promoted: probes reach it by header.
        """
        if self.status == "promoted":
            return {self.release: 1.0}
        shares = {self.replaces: 1 - self.weight, self.release: self.weight} if self.replaces else {}
        return {release: share for release, share in shares.items() if share}


def begin(release: str, replaces: str | None, policy: RolloutPolicy) -> RolloutState:
    """The first state. Without a champion there is no traffic to split: one observed step at full weight."""
    steps = [s.weight for s in policy.steps] if policy.strategy == "canary" and replaces else []
    weights = tuple(steps) if steps else (1.0,)
    return RolloutState(release=release, replaces=replaces, weights=weights)


def begin_rollback(release: str, replaces: str | None) -> RolloutState:
    """The first state of a rollback: the release is probed by header at weight 0, then gets all traffic."""
    return RolloutState(release=release, replaces=replaces, weights=(0.0,))


def rollback_policy(policy: RolloutPolicy) -> RolloutPolicy:
    """The policy of a rollback: no holds, and only answering counts: slow or truncated is better than wrong.

    Eight good answers are enough, so that it takes seconds: they show a rate below a third. With an error among them,
    the release is asked again. Errors count also where the policy has no rule on them: production must answer.
    """
    asked = ("error_rate", *(a.metric for a in policy.analysis if a.metric == "empty_rate"))
    return RolloutPolicy(
        strategy="all_at_once",
        steps=(RolloutStep(weight=1.0, hold=0.0),),
        analysis=tuple(Analysis(metric=m, at_most=1 / 3) for m in dict.fromkeys(asked)),
        min_samples=min(policy.min_samples, 8),
        decide_within=LONGEST_AT_LEAST_S / 2,
    )


def advance(state: RolloutState, judgement: Judgement) -> RolloutState:
    """The state after a step: the next weight, promoted, or returned to the champion with all reasons.

    Only a step that passed leads on. The shell asks for a judgement as long as it is waiting.
    """
    if state.status != "running" or judgement.status == "waiting":
        return state
    at = f"at {state.weight:.0%}"
    result = StepResult(
        weight=state.weight,
        outcome=judgement.status,
        answers=judgement.answers,
        figures=(*judgement.failures, *judgement.reasons),
    )
    noted = {"requests": state.requests + judgement.answers, "results": (*state.results, result)}
    if judgement.status != "passed":
        failed = tuple(f"{at}: {f}" for f in judgement.failures)
        return state.model_copy(update={**noted, "status": "returned", "reasons": failed})
    seen = (*state.reasons, *(f"{at}: {r}" for r in judgement.reasons))
    if state.step + 1 < len(state.weights):
        return state.model_copy(update={**noted, "step": state.step + 1, "reasons": seen})
    return state.model_copy(update={**noted, "status": "promoted", "reasons": seen})
