"""A weighted rollout as a pure state machine: state and measurements in, the next state out.

`llmops_assets.delivery.rollout` moves the traffic, waits, measures, and stores every state before acting on the
next, so that an interrupted rollout resumes where it stopped.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from llmops_assets.domain.models import Frozen, Strict, number_or_text
from llmops_assets.domain.percentiles import percentile

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
_A_BOUND = number_or_text("share or seconds", f"({_SHARE_TEXT}|{_DURATION_TEXT})", "1%", "5s", minimum=0)
Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0), WithJsonSchema(_A_DURATION)]
Share = Annotated[float, BeforeValidator(parse_share), Field(ge=0, le=1), WithJsonSchema(_A_SHARE)]


def _parse_bound(value: object) -> object:
    if isinstance(value, str):
        return parse_share(value) if value.strip().endswith("%") else parse_duration(value)
    return value


RATES = ("error_rate", "empty_rate", "cut_rate")


class RolloutStep(Strict):
    weight: Share = Field(gt=0, description="Share of production's traffic, for example 10%.")
    hold: Duration = Field(default=5.0, description="How long to observe the candidate at this weight, for example 5s.")


class Analysis(Strict):
    """One condition on the measurements of a hold."""

    metric: Literal["error_rate", "empty_rate", "cut_rate", "p95_latency"] = Field(
        description="Share of failed answers, of empty answers, of answers that a limit of the endpoint truncated "
        "before evaluation.max_new_tokens (64 if that is less), or the 95th percentile of latency."
    )
    at_most: Annotated[float, BeforeValidator(_parse_bound), Field(ge=0), WithJsonSchema(_A_BOUND)] = Field(
        description="Upper bound: a share (1%) for rates, a duration (5s) for latency."
    )

    @model_validator(mode="before")
    @classmethod
    def _right_unit(cls, value: Any) -> Any:
        """Rejects `error_rate at_most 5s`, which would mean 500% and could never fail."""
        if isinstance(value, dict) and isinstance(bound := value.get("at_most"), str):
            share = bound.strip().endswith("%")
            if value.get("metric") == "p95_latency" and share:
                raise ValueError(f"p95_latency is a duration, such as 5s, not {bound!r}")
            if value.get("metric") in RATES and not share:
                raise ValueError(f"{value['metric']} is a share, such as 1%, not {bound!r}")
        return value

    @model_validator(mode="after")
    def _can_fail(self) -> "Analysis":
        if self.metric != "p95_latency" and self.at_most > 1:
            raise ValueError(f"{self.metric} is a share between 0 and 1, such as 1%, not {self.at_most:g}")
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
            Analysis(metric="error_rate", at_most=0.01),
            Analysis(metric="empty_rate", at_most=0.05),
            Analysis(metric="cut_rate", at_most=0.05),
        ),
        description="Conditions for each step; if one fails, traffic returns to the champion.",
    )
    min_samples: int = Field(
        default=20, ge=1, description="Answers required at each step; with fewer the candidate is not promoted."
    )

    @model_validator(mode="after")
    def _grows(self) -> "RolloutPolicy":
        weights = [s.weight for s in self.steps]
        if weights != sorted(weights):
            raise ValueError(f"the weights of steps must not decrease ({', '.join(f'{w:.0%}' for w in weights)})")
        return self


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


class RolloutState(Frozen):
    """The state of a rollout. It is stored before anything acts on it."""

    release: str
    replaces: str | None
    weights: tuple[float, ...] = Field(description="The steps as planned at the start; full weight follows them.")
    step: int = 0
    status: Literal["running", "promoted", "returned"] = "running"
    reasons: tuple[str, ...] = ()
    requests: int = 0

    @property
    def weight(self) -> float:
        """The candidate's share of traffic in this state."""
        if self.status == "promoted":
            return 1.0
        return 0.0 if self.status == "returned" else self.weights[self.step]


def begin(release: str, replaces: str | None, policy: RolloutPolicy) -> RolloutState:
    """The first state. Without a champion there is no traffic to split: one observed step at full weight."""
    steps = [s.weight for s in policy.steps] if policy.strategy == "canary" and replaces else []
    weights = tuple(steps) if steps else (1.0,)
    return RolloutState(release=release, replaces=replaces, weights=weights)


def begin_rollback(release: str, replaces: str) -> RolloutState:
    """The first state of a rollback: the release is probed by header at weight 0, then gets all traffic."""
    return RolloutState(release=release, replaces=replaces, weights=(0.0,))


def rollback_policy(policy: RolloutPolicy) -> RolloutPolicy:
    """The policy of a rollback: no holds, and only answering counts: slow or truncated is better than wrong."""
    return RolloutPolicy(
        strategy="all_at_once",
        steps=(RolloutStep(weight=1.0, hold=0.0),),
        analysis=tuple(a for a in policy.analysis if a.metric in ("error_rate", "empty_rate")),
        min_samples=min(policy.min_samples, 8),
    )


def analyse(policy: RolloutPolicy, samples: Sequence[ProbeResult]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Failed and passed conditions, as text. Too few samples is a failure: missing evidence never promotes."""
    bad: list[str] = []
    good: list[str] = []
    total = len(samples)
    text = f"{total} answers, minimum {policy.min_samples}"
    (good if total >= policy.min_samples else bad).append(text)
    if not total:
        return tuple(bad), tuple(good)
    if not any(s.ok for s in samples):
        bad.append("no response completed")
    seen = {
        "error_rate": sum(not s.ok for s in samples) / total,
        "empty_rate": sum(s.ok and s.empty for s in samples) / total,
        "cut_rate": sum(s.ok and s.cut for s in samples) / total,
        "p95_latency": percentile([s.latency_s for s in samples], 0.95),
    }
    for rule in policy.analysis:
        value = seen[rule.metric]
        unit = "s" if rule.metric == "p95_latency" else ""
        text = f"{rule.metric} {value:.3g}{unit}, limit {rule.at_most:g}{unit}"
        hint = f" ({CUT_HINT})" if rule.metric == "cut_rate" and value > rule.at_most else ""
        (good if value <= rule.at_most else bad).append(text + hint)
    return tuple(bad), tuple(good)


def advance(state: RolloutState, policy: RolloutPolicy, samples: Sequence[ProbeResult]) -> RolloutState:
    """The state after a hold: the next weight, promoted, or returned to the champion with all reasons."""
    if state.status != "running":
        return state
    failures, reasons = analyse(policy, samples)
    at = f"at {state.weight:.0%}"
    requests = state.requests + len(samples)
    if failures:
        return state.model_copy(
            update={"status": "returned", "reasons": tuple(f"{at}: {f}" for f in failures), "requests": requests}
        )
    seen = (*state.reasons, *(f"{at}: {r}" for r in reasons))
    if state.step + 1 < len(state.weights):
        return state.model_copy(update={"step": state.step + 1, "reasons": seen, "requests": requests})
    return state.model_copy(update={"status": "promoted", "reasons": seen, "requests": requests})
