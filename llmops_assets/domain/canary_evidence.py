"""The evidence on a step of a rollout: what users and probes got, from the candidate and from the champion. Pure.

`llmops_assets.delivery.canary` gathers it, `llmops_assets.domain.canary` judges it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from llmops_assets.domain.intervals import falls_short_by_chance
from llmops_assets.domain.rollout import ProbeResult

GUARD = 0.001
"""Chance below which a difference from the champion that no rule names counts."""


@dataclass(frozen=True, slots=True)
class UserRequest:
    """One request of a user, as the gateway saw it."""

    ok: bool
    """Answered completely, with a status below 400."""
    latency_s: float
    """To the end of the answer, or until the user left."""
    refused: bool = False
    """The engine answered with a status of 400 to 499."""
    left: bool = False
    """The user closed the connection first: no evidence on errors."""
    unanswered: bool = False
    """And had received nothing until then."""
    at: float = field(default=0.0, compare=False)
    """When it began, in epoch seconds."""
    size: int | None = field(default=None, compare=False)
    """Bytes of the request's body; None: not recorded."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What one release did with the requests of one source."""

    answers: int = 0
    """Answered or failed: without requests that were refused, or whose user left."""
    errors: int = 0
    empty: int = 0
    cut: int = 0
    refused: int = 0
    left: int = 0
    unanswered: int = 0
    latencies: tuple[float, ...] = field(default=(), repr=False)
    waited: tuple[float, ...] = field(default=(), repr=False)
    """How long those waited who left: less than the latency of their answer."""

    @property
    def requests(self) -> int:
        return self.answers + self.refused + self.left

    def slower_than(self, limit: float) -> tuple[int, int]:
        """(answers slower than this, answers of which that is known)."""
        slow = sum(t > limit for t in self.latencies)
        given_up = sum(t > limit for t in self.waited)
        return slow + given_up, len(self.latencies) + given_up


def of_probes(samples: Sequence[ProbeResult]) -> Tally:
    return Tally(
        answers=len(samples),
        errors=sum(not s.ok for s in samples),
        empty=sum(s.ok and s.empty for s in samples),
        cut=sum(s.ok and s.cut for s in samples),
        latencies=tuple(s.latency_s for s in samples),
    )


def of_users(requests: Iterable[UserRequest]) -> Tally:
    seen = list(requests)
    answered = [r for r in seen if not r.refused and not r.left]
    return Tally(
        answers=len(answered),
        errors=sum(not r.ok for r in answered),
        refused=sum(r.refused and not r.left for r in seen),
        left=sum(r.left for r in seen),
        unanswered=sum(r.left and r.unanswered for r in seen),
        latencies=tuple(r.latency_s for r in answered),
        waited=tuple(r.latency_s for r in seen if r.left),
    )


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a step has shown so far."""

    probes: Tally = Tally()
    users: Tally = Tally()
    champion_probes: Tally = Tally()
    champion_users: Tally = Tally()
    weight: float = 1.0
    """The candidate's share of the users' traffic."""
    has_champion: bool = False

    @property
    def answers(self) -> int:
        return self.probes.answers + self.users.answers

    @property
    def hangs(self) -> bool:
        """Whether the candidate has completed far fewer requests than its share: the others have not ended."""
        total = self.users.requests + self.champion_users.requests
        return 0 < self.weight < 1 and falls_short_by_chance(self.users.requests, total, self.weight) < GUARD
