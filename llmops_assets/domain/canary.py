"""Judges a step of a rollout on evidence: users' requests and probes, the candidate's beside the champion's. Pure.

A rule is decided by a one-sided confidence interval, not by the observed value: passed if even the bound keeps the
limit, failed if even the other bound breaks it, otherwise undecided. An undecided step is prolonged, and returned when
its time is up. `llmops_assets.delivery.canary` gathers the evidence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llmops_assets.domain.canary_evidence import GUARD, Evidence, Tally
from llmops_assets.domain.formatting import duration
from llmops_assets.domain.intervals import (
    exceeds_by_chance,
    excess_bounds,
    fewest_for_excess,
    fewest_for_rate,
    quantile_bounds,
    rate_bounds,
)
from llmops_assets.domain.percentiles import percentile
from llmops_assets.domain.rollout import CUT_HINT, LATENCIES, Analysis, Judgement, RolloutPolicy

INTERIM = 0.999
"""Confidence of a failure before the hold has ended: Haybittle and Peto's rule keeps early looks, which are many and
see little, for what is beyond doubt."""
THIN = 2
"""A source with fewer answers than twice those that decide if all are good is too thin: one error leaves it open."""
Status = Literal["passed", "failed", "undecided", "waiting"]
Source = Literal["users", "probes"]


@dataclass(frozen=True, slots=True)
class _Side:
    """What one source says about one condition."""

    source: Source
    total: int
    status: Literal["passed", "failed", "undecided"]
    value: float
    """The observed value."""
    within: bool
    """Whether the observed value keeps the limit."""
    fewest: int
    """The fewest answers that can decide it."""
    text: Callable[[], str]

    @property
    def thin(self) -> bool:
        return self.total < THIN * self.fewest


@dataclass(frozen=True, slots=True)
class _Ruling:
    """What one condition says, and why."""

    status: Status
    rule: Analysis
    relative: bool
    sides: tuple[_Side, ...] = ()
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        rule, known = self.rule, [s for s in self.sides if s.total]
        if self.relative and not self.sides:
            return f"{rule.metric}: no champion to compare with"
        worst = _amount(rule, max(s.value for s in known)) if known else "unknown"
        limit = f"limit {_amount(rule, rule.at_most or 0.0)}"
        limit = f"margin {_percent(rule.margin)} of the champion's" if self.relative else limit
        said = ", ".join([*(s.text() for s in known), *self.notes]) or "no answers"
        hint = f" ({CUT_HINT})" if rule.metric == "cut_rate" and self.status != "passed" else ""
        return f"{rule.metric} {worst}, {limit}: {said}{hint}"


def judge(policy: RolloutPolicy, seen: Evidence, elapsed: float, hold: float) -> Judgement:
    """The judgement of a step after `elapsed` of at least `hold` seconds; `policy` limits how long it may last."""
    rulings = _rule(policy, seen, elapsed, hold)
    status = _status(policy, rulings, seen, elapsed, hold)
    count = f"{seen.answers} answers ({_sources(seen)}), minimum {policy.min_samples}"
    enough = seen.answers >= policy.min_samples
    failures = [*_guards(seen, elapsed >= hold), *(r.text() for r in rulings if r.status == "failed")]
    reasons = [count] * enough + [r.text() for r in rulings if r.status == "passed"]
    open_ones = [count] * (not enough) + [r.text() for r in rulings if r.status in ("undecided", "waiting")]
    if status == "undecided":
        failures = [f"undecided after {duration(elapsed)}: {text}" for text in open_ones]
    return Judgement(
        status=status,
        failures=tuple(failures),
        reasons=tuple(reasons),
        open=tuple(open_ones),
        answers=seen.answers,
    )


def status_of(policy: RolloutPolicy, seen: Evidence, elapsed: float, hold: float) -> Status:
    """The status of the judgement, without its texts: simulations ask for it a hundred thousand times."""
    return _status(policy, _rule(policy, seen, elapsed, hold), seen, elapsed, hold)


def probes_suffice(policy: RolloutPolicy, seen: Evidence) -> bool:
    """Whether the probes alone would pass: more of them decide nothing, and only load the endpoint."""
    alone = replace(seen, users=Tally(), champion_users=Tally())
    return status_of(policy, alone, 0.0, 0.0) == "passed"


def _rule(policy: RolloutPolicy, seen: Evidence, elapsed: float, hold: float) -> "list[_Ruling]":
    confidence = policy.confidence if elapsed >= hold else max(policy.confidence, INTERIM)
    longest = policy.longest(hold)
    return [_rule_on(rule, relative, seen, confidence, elapsed, longest) for rule, relative in conditions(policy)]


def _status(policy: RolloutPolicy, rulings: "Sequence[_Ruling]", seen: Evidence, elapsed: float, hold: float) -> Status:
    over, late = elapsed >= hold, elapsed >= policy.longest(hold)
    if any(r.status == "failed" for r in rulings) or _guards(seen, over):
        return "failed"
    if seen.answers < policy.min_samples or any(r.status != "passed" for r in rulings):
        return "undecided" if late else "waiting"
    return "passed" if over else "waiting"


def conditions(policy: RolloutPolicy) -> list[tuple[Analysis, bool]]:
    """(rule, whether its comparison with the champion is meant) for each condition of the policy."""
    absolute = [(rule, False) for rule in policy.analysis if rule.at_most is not None]
    return absolute + [(rule, True) for rule in policy.analysis if rule.no_worse_than]


def fewest(rule: Analysis, relative: bool, confidence: float) -> int:
    """The fewest answers that can pass this condition: all of them good."""
    if rule.metric in LATENCIES:
        share = LATENCIES[rule.metric]
        return fewest_for_rate(1 - share, 1 - (1 - confidence) / 2 if relative else confidence)
    if relative:
        return fewest_for_excess(rule.margin, confidence)
    return fewest_for_rate(rule.at_most or 0.0, confidence)


def _sources(seen: Evidence) -> str:
    """Which requests the answers belong to."""
    probes = f"{seen.probes.answers} to probes"
    if not seen.users.requests:
        return f"{probes}; no user traffic, so probes alone decide"
    others = f", the champion {seen.champion_users.answers}" if seen.has_champion else ""
    return f"{probes}, {seen.users.answers} to users{others}"


def _guards(seen: Evidence, over: bool) -> list[str]:
    """What returns a candidate although no rule names it."""
    found = []
    if over and seen.probes.answers and seen.probes.errors == seen.probes.answers:
        found.append("no response completed")
    mine, theirs = seen.users, seen.champion_users
    for what, events, others in (
        ("refused with a status of 400 to 499", mine.refused, theirs.refused),
        ("given up by the user before anything was answered", mine.unanswered, theirs.unanswered),
    ):
        if exceeds_by_chance(events, mine.requests, others, theirs.requests) < GUARD:
            champion = f"the champion's {others} of {theirs.requests}"
            found.append(f"{events} of {mine.requests} of the users' requests were {what}, {champion}")
    return found


def _rule_on(
    rule: Analysis, relative: bool, seen: Evidence, confidence: float, elapsed: float, longest: float
) -> _Ruling:
    if relative and not seen.has_champion:
        return _Ruling("passed", rule, relative)
    pairs: list[tuple[Source, Tally, Tally]] = [
        ("users", seen.users, seen.champion_users),
        ("probes", seen.probes, seen.champion_probes),
    ]
    if rule.metric in ("empty_rate", "cut_rate"):
        pairs = pairs[1:]  # the gateway does not read answers
    ask = _compare if relative else _bound
    sides = [side for source, mine, theirs in pairs if (side := ask(rule, source, mine, theirs, confidence))]
    status, notes = _combine(sides, seen, elapsed, longest)
    return _Ruling(status, rule, relative, tuple(sides), tuple(notes))


def _combine(sides: Sequence[_Side], seen: Evidence, elapsed: float, longest: float) -> tuple[Status, list[str]]:
    """Users and probes each must not fail. Probes decide alone only where users' traffic cannot decide in time."""
    open_status: Status = "undecided" if elapsed >= longest else "waiting"
    if any(s.status == "failed" for s in sides):
        return "failed", []
    users = next((s for s in sides if s.source == "users" and s.status == "undecided"), None)
    notes = []
    if users and seen.hangs:
        return open_status, [f"{seen.users.requests} of the users' requests ended, far fewer than {seen.weight:.0%}"]
    if users and users.thin:
        share = min(seen.weight, 1 - seen.weight) if seen.weight < 1 else 1.0
        both = seen.users.requests + seen.champion_users.requests
        expected = both / max(elapsed, 0.5) * longest * share
        if elapsed < longest and expected >= users.fewest:
            return open_status, [f"users' traffic can decide it from {users.fewest} answers"]
        if users.total:
            notes.append(f"users' traffic is too thin to decide ({users.fewest} answers needed), so probes decide")
    blocking = [s for s in sides if s.status == "undecided" and s.total and not (s.within and s.thin)]
    decided = any(s.status == "passed" for s in sides) and not blocking
    needed = max((s.fewest for s in sides if s.source == "probes"), default=0)
    return ("passed", notes) if decided else (open_status, [*notes, f"at least {needed} answers are needed"])


def _bound(rule: Analysis, source: Source, mine: Tally, theirs: Tally, c: float) -> _Side | None:
    """The condition at_most: a rate, or for latency the rate of answers that are slower."""
    assert rule.at_most is not None
    latency = rule.metric in LATENCIES
    limit = 1 - LATENCIES[rule.metric] if latency else rule.at_most
    events, total = _events(rule, mine)
    lower, upper = rate_bounds(events, total, c)
    status: Literal["passed", "failed", "undecided"] = (
        "passed"
        if upper <= limit or (total and not limit and not events)
        else "failed"
        if lower > limit
        else "undecided"
    )
    if latency and source == "users" and status == "failed":
        others = _events(rule, theirs)
        if rate_bounds(*others, c).lower > limit and excess_bounds(events, total, *others, c).lower <= 0:
            return None  # users ask for long answers, and wait as long for the champion's
    what = f"slower than {duration(rule.at_most)}" if latency else rule.metric.removesuffix("_rate")

    def text() -> str:
        return f"{source} {events} of {total} {what} ({_interval(status, lower, upper)})"

    rate = events / total if total else 0.0
    value = percentile([*mine.latencies, *mine.waited], 1 - limit) if latency and total else rate
    return _Side(source, total, status, value, rate <= limit, fewest(rule, False, c), text)


def _events(rule: Analysis, tally: Tally) -> tuple[int, int]:
    if rule.metric in LATENCIES:
        return tally.slower_than(rule.at_most or 0.0)
    return {"error_rate": tally.errors, "empty_rate": tally.empty, "cut_rate": tally.cut}[rule.metric], tally.answers


def _compare(rule: Analysis, source: Source, mine: Tally, theirs: Tally, c: float) -> _Side | None:
    """The condition no_worse_than: champion."""
    total, least = min(mine.answers, theirs.answers), fewest(rule, True, c)
    status: Literal["passed", "failed", "undecided"]
    if rule.metric in LATENCIES:
        share, each = LATENCIES[rule.metric], 1 - (1 - c) / 2  # two bounds, which must hold together
        if not mine.latencies or not theirs.latencies:
            return _Side(source, 0, "undecided", 0.0, False, least, str)
        own, champion = percentile(mine.latencies, share), percentile(theirs.latencies, share)
        low, high = quantile_bounds(mine.latencies, share, each)
        their_low, their_high = quantile_bounds(theirs.latencies, share, each)
        most = 1 + rule.margin
        status = "passed" if high <= most * their_low else "failed" if low > most * their_high else "undecided"
        value, within = own, own <= most * champion
        said = f"{source} {duration(own)}, the champion's {duration(champion)}"
    else:
        (events, n), (others, m) = _events(rule, mine), _events(rule, theirs)
        lower, upper = excess_bounds(events, n, others, m, c)
        status = "passed" if upper <= rule.margin else "failed" if lower > rule.margin else "undecided"
        value = events / n if n else 0.0
        within = bool(total) and value - others / m <= rule.margin
        said = f"{source} {events} of {n}, the champion {others} of {m} (difference {_interval(status, lower, upper)})"
    return _Side(source, total, status, value, within, least, lambda: said)


def _interval(status: str, lower: float, upper: float) -> str:
    if status == "passed":
        return f"at most {_percent(upper)}"
    return f"at least {_percent(lower)}" if status == "failed" else f"{_percent(lower)} to {_percent(upper)}"


def _amount(rule: Analysis, value: float) -> str:
    return f"{value:.3g}s" if rule.metric in LATENCIES else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g}%"
