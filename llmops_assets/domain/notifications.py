"""Decides from the ledger which events people and other systems are told about. Pure.

An event is derived from what the ledger holds, never from something that happens to be running: so a killed process
loses none. Its key is unique, so an event that is derived again is stored once. `notification_messages` writes the
messages, `resources.ledger.outbox` stores them per target, `llmops_assets.delivery.notifications` sends them.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from pydantic import Field

from llmops_assets.domain.formatting import time_span
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.requests import DATA_AGE, DRIFT, Request, Status
from llmops_assets.domain.rollout import RolloutState

EventKind = Literal[
    "rejected",
    "failed",
    "waiting",
    "released",
    "returned",
    "rolled_back",
    "endpoint_down",
    "endpoint_up",
    "data_old",
    "drift",
]
KINDS: tuple[EventKind, ...] = get_args(EventKind)
DOWN_AFTER_S = 30.0
"""How long an endpoint must be down before anyone is told. A crashed engine is back within seconds."""

_CLOSED: dict[Status, EventKind] = {
    "rejected": "rejected", "failed": "failed", "waiting": "waiting", "released": "released",
}  # fmt: skip
_APPROVE = re.compile(
    r"llmops approve \S+ --(release (?P<release>[0-9a-f]{6,64})|report (?P<report>[0-9a-f]{6,64})"
    r"|budget (?P<budget>[0-9a-f]{6,64}))\b"
)
_IN_CANARY = "production_endpoint: "


class Closing(Frozen):
    """A request of the ledger with its row's id and when it last changed (epoch seconds)."""

    id: int
    request: Request
    at: float


class Rolled(Frozen):
    """A rollout of the ledger, with its row's id and when it last changed (epoch seconds)."""

    id: int
    revision: str
    state: RolloutState
    at: float


class Event(Frozen):
    """Something that happened to a project, with an identity that never changes."""

    key: str = Field(description="Unique in the ledger: derived from the row that shows it.")
    project: str
    kind: EventKind
    at: float = Field(description="When it happened, in epoch seconds.")
    detail: str = Field(description="What and why, as the ledger has it.")
    revision: str | None = None
    release: str | None = Field(default=None, description="The release, or the first characters of its digest.")
    report: str | None = Field(default=None, description="The report that waits for its review, as `release`.")
    budget: str | None = Field(default=None, description="The commit that waits for its budget, as `release`.")
    run_id: str | None = Field(default=None, description="The Dagster run.")
    environment: str | None = None
    request_id: int | None = None
    rollout_id: int | None = None


def derive(
    project: str,
    closings: Sequence[Closing],
    rollouts: Sequence[Rolled],
    down: Mapping[str, str],
    up: Mapping[str, str] | None = None,
) -> list[Event]:
    """All events that the ledger shows, oldest first.

    One change makes one event: a candidate that its canary returned is `returned`, not `rejected` too; a run that died
    and is retried automatically is not `failed`; a rollback that failed is `failed`, and its rollout is nothing more.

    Args:
        down: environment → what `down_mark` wrote, for the endpoints that are down.
        up: environment → what `up_mark` wrote, for the newest recovery of each endpoint.
    """
    returned = [r for r in rollouts if r.state.status == "returned"]
    found = [e for e in (_of_request(project, c, closings, returned) for c in closings) if e is not None]
    by_rollback = {c.request.owner for c in closings if c.request.rollback}
    for rolled in returned:
        if rolled.state.owner in by_rollback:
            continue
        closing = next((c for c in reversed(closings) if c.request.owner == rolled.state.owner), None)
        found.append(
            Event(
                key=f"rollout:{rolled.id}:returned",
                project=project,
                kind="returned",
                at=rolled.at,
                detail="; ".join(rolled.state.reasons) or "it was returned",
                revision=rolled.revision,
                release=rolled.state.release,
                run_id=closing.request.run_id if closing else None,
                rollout_id=rolled.id,
            )
        )
    found += [_of_mark(project, environment, mark) for environment, mark in down.items()]
    found += [_of_recovery(project, environment, mark) for environment, mark in (up or {}).items()]
    return sorted(found, key=lambda event: event.at)


def _of_request(
    project: str, closing: Closing, closings: Sequence[Closing], returned: Sequence[Rolled]
) -> Event | None:
    request = closing.request
    kind = _CLOSED.get(request.status)
    if request.rollback:
        kind = {"done": "rolled_back", "failed": "failed"}.get(request.status)  # type: ignore[assignment]
    if request.asked_by == DATA_AGE:
        kind = "data_old"
    if request.asked_by == DRIFT:
        kind = "drift"
    if kind is None or (kind == "failed" and _resumed(request, closings)):
        return None
    if kind == "rejected" and any(
        r.state.owner == request.owner and request.detail == _IN_CANARY + "; ".join(r.state.reasons) for r in returned
    ):
        return None
    asked = _APPROVE.search(request.detail) if kind == "waiting" else None
    return Event(
        key=f"{request.name}:{request.status}",
        project=project,
        kind=kind,
        at=closing.at,
        detail=request.detail or request.reason,
        # A rollback has the revision of the last planned commit, which it has nothing to do with.
        revision=None if request.rollback else request.revision,
        release=asked["release"] if asked else None,
        report=asked["report"] if asked else None,
        budget=asked["budget"] if asked else None,
        run_id=request.run_id,
        request_id=closing.id,
    )


def _resumed(request: Request, closings: Iterable[Closing]) -> bool:
    """Whether the next generation continues this one automatically; a retry by a person counts its tries from 1."""
    return any(
        c.request.revision == request.revision
        and c.request.generation == request.generation + 1
        and c.request.tries == request.tries + 1
        for c in closings
    )


# -- endpoints --------------------------------------------------------------------------------------------------------


def down_mark(release: str, at: float) -> str:
    """What the ledger keeps of an endpoint that is down, until it is up again."""
    return json.dumps({"release": release, "at": at}, sort_keys=True)


def _of_mark(project: str, environment: str, mark: str) -> Event:
    found = json.loads(mark)
    return Event(
        key=f"{project}:{environment}:down:{short(found['release'])}:{found['at']:.3f}",
        project=project,
        kind="endpoint_down",
        at=found["at"],
        detail=f"{environment} has not answered for {DOWN_AFTER_S:.0f} s; the recovery sensor tries to restart it",
        release=found["release"],
        environment=environment,
    )


def up_mark(down: str, at: float) -> str:
    """What the ledger keeps of an endpoint's newest recovery.

    Args:
        down: the mark of the outage that has ended.
    """
    found = json.loads(down)
    return json.dumps({"release": found["release"], "down": found["at"], "at": at}, sort_keys=True)


def _of_recovery(project: str, environment: str, mark: str) -> Event:
    found = json.loads(mark)
    lasted = max(0.0, found["at"] - found["down"])
    return Event(
        key=f"{project}:{environment}:up:{short(found['release'])}:{found['down']:.3f}",
        project=project,
        kind="endpoint_up",
        at=found["at"],
        detail=f"{environment} has recovered and answers again; it was down for {time_span(round(lasted))}",
        release=found["release"],
        environment=environment,
    )


def is_down(since: float | None, now: float) -> bool:
    """Whether an endpoint that was seen down since then, without interruption, counts as down.

    Args:
        since, now: on one monotonic clock, in seconds.
    """
    return since is not None and now - since >= DOWN_AFTER_S
