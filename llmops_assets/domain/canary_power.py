"""How well a canary's rules tell releases apart: simulated rollouts through the real judgement. Pure.

`llmops plan` states it for a project's own rules, so that nobody mistakes 20 good answers for proof.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial

from pydantic import Field

from llmops_assets.domain.canary import Status, conditions, fewest, probes_suffice, status_of
from llmops_assets.domain.canary_evidence import Evidence, Tally
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.rollout import Judgement, RolloutPolicy, advance, begin

ROLLOUTS = 1000
ANSWERS_PER_S = 8.0
"""Probes answered per second: eight slots that take a second each."""
LOOKS = 60
"""Looks at the evidence per step, at most; a real step looks after each round of probes."""
KNOWN = 4096
"""Judgements that are remembered: most rollouts of one release show the same few errors at the same times."""
Judge = Callable[[Evidence, float, float], Status]
"""(evidence, seconds since the step began, its hold) → what it says."""


class Power(Frozen):
    """The ends of simulated rollouts of a release that fails a share of its answers."""

    error_rate: float
    promoted: float = Field(description="Share of the rollouts.")
    failed: float = Field(description="Share that was returned because a rule failed.")
    undecided: float = Field(description="Share that was returned because the time was up.")
    seconds: float = Field(description="Mean duration of a rollout.")

    @property
    def returned(self) -> float:
        return self.failed + self.undecided


class World(Frozen):
    """What a simulated rollout meets."""

    users_fail: float = Field(description="Share of the users' requests that fail at the candidate.")
    probes_fail: float
    users_per_s: float = Field(description="Requests of users per second, to both releases.")


def simulate(
    policy: RolloutPolicy,
    error_rate: float,
    users_per_s: float = 0.0,
    probes_fail: bool = True,
    rollouts: int = ROLLOUTS,
    seed: int = 0,
) -> Power:
    """Simulates rollouts of a release with this error rate over a champion that makes no errors.

    Only the rules on error_rate are simulated.

    Args:
        probes_fail: whether the probes see the errors too.
    """
    rules = tuple(r for r in policy.analysis if r.metric == "error_rate")
    policy = policy.model_copy(update={"analysis": rules})
    world = World(users_fail=error_rate, probes_fail=error_rate * probes_fail, users_per_s=users_per_s)
    chance, judge = random.Random(seed), lru_cache(KNOWN)(partial(status_of, policy))
    ends = {"promoted": 0, "failed": 0, "undecided": 0}
    seconds = 0.0
    for _ in range(rollouts):
        end, took = _rollout(policy, world, chance, judge)
        ends[end] += 1
        seconds += took
    shares = {name: count / rollouts for name, count in ends.items()}
    return Power(error_rate=error_rate, seconds=seconds / rollouts, **shares)


def _rollout(policy: RolloutPolicy, world: World, chance: random.Random, judge: Judge) -> tuple[str, float]:
    """(how it ended, after how many seconds)."""
    state, seconds = begin("candidate", "champion", policy), 0.0
    end: Status = "passed"
    while state.status == "running":
        hold = policy.steps[state.step].hold if state.step < len(policy.steps) else 0.0
        interval = max(1.0, policy.longest(hold) / LOOKS)
        for seen, elapsed in _evidence(policy, state.weight, world, interval, chance):
            end = judge(seen, elapsed, hold)
            if end != "waiting":
                break
        seconds += elapsed
        state = advance(state, Judgement(status=end))
    return "promoted" if state.status == "promoted" else end, seconds


def _evidence(
    policy: RolloutPolicy, weight: float, world: World, interval: float, chance: random.Random
) -> Iterator[tuple[Evidence, float]]:
    """What a step has shown after each interval, without end."""

    def count(number: int, share: float) -> int:
        return sum([chance.random() < share for _ in range(number)]) if share else 0

    def more(tally: Tally, answers: int, fail: float) -> Tally:
        return Tally(answers=tally.answers + answers, errors=tally.errors + count(answers, fail))

    compares = any(rule.no_worse_than for rule in policy.analysis)
    seen, elapsed, arrived = Evidence(weight=weight, has_champion=True), 0.0, 0.0
    decided = False
    while True:
        elapsed, arrived = elapsed + interval, arrived + world.users_per_s * interval
        # Once the probes have decided they stop, as in a real step: users' requests may still be awaited.
        decided = decided or bool(world.users_per_s and probes_suffice(policy, seen))
        if not decided:
            probes = more(seen.probes, round(ANSWERS_PER_S * interval), world.probes_fail)
            seen = replace(seen, probes=probes, champion_probes=Tally(answers=probes.answers if compares else 0))
        if not world.users_per_s:
            yield seen, elapsed
            continue
        mine = count(int(arrived), weight)
        seen = replace(
            seen,
            users=more(seen.users, mine, world.users_fail),
            champion_users=more(seen.champion_users, int(arrived) - mine, 0.0),
        )
        arrived -= int(arrived)
        yield seen, elapsed


def needed_answers(policy: RolloutPolicy) -> int:
    """The fewest answers that can pass a step."""
    each = [fewest(rule, relative, policy.confidence) for rule, relative in conditions(policy)]
    return max([policy.min_samples, *each])


def stated(policy: RolloutPolicy) -> list[Power]:
    """What a plan states: releases at a tenth of the error limit, at twice, and at four times the limit."""
    limits = [r.at_most for r in policy.analysis if r.metric == "error_rate" and r.at_most]
    rates = [limit * times for limit in limits[:1] for times in (0.1, 2, 4)]
    return [simulate(policy, rate) for rate in rates if rate < 1]


def in_words(policy: RolloutPolicy) -> str:
    """The same as one sentence."""
    confidence = _percent(policy.confidence)
    needs = f"a step passes with {needed_answers(policy)} good answers at the earliest ({confidence} confidence)"
    ends = [f"{_percent(p.returned)} of releases that fail {_percent(p.error_rate)} of answers" for p in stated(policy)]
    return f"{needs}; {ROLLOUTS:,} simulated rollouts returned {', '.join(ends)}" if ends else needs


def _percent(share: float) -> str:
    return f"{share * 100:.3g}%"
