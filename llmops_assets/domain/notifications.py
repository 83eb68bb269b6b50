"""Decides from the ledger which events people and other systems are told about, and writes the message. Pure.

An event is derived from what the ledger holds, never from something that happens to be running: so a killed process
loses none. Its key is unique, so an event that is derived again is stored once. `resources.ledger.outbox` stores
messages per target, `llmops_assets.delivery.notifications` sends them.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from pydantic import Field

from llmops_assets.domain.formatting import ago, at_time, excerpt, time_span
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
MessageKind = Literal[EventKind, "undelivered", "test"]
DOWN_AFTER_S = 30.0
"""How long an endpoint must be down before anyone is told. A crashed engine is back within seconds."""
LATE_AFTER_S = 600.0
"""A message that is sent later than this after its event says so."""
LONGEST_DETAIL = 1500
"""Characters. Slack, Teams and others cut or refuse messages above 3,000 to 4,000."""

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


class Baseline(Frozen):
    """What the ledger held when a target was first seen: history that it is not told about.

    Ids and not times: they keep their order when a clock is set back.
    """

    request: int = Field(description="The newest request's id.")
    rollout: int = Field(description="The newest rollout's id.")
    open: tuple[int, ...] = Field(default=(), description="Older requests that had not ended, or waited for a person.")
    running: tuple[int, ...] = Field(default=(), description="Older rollouts that had not ended.")
    recovered: tuple[str, ...] = Field(default=(), description="Keys of the endpoints' recoveries that are history.")

    @classmethod
    def of(
        cls, closings: Sequence[Closing], rollouts: Sequence[Rolled], recoveries: Iterable["Event"] = ()
    ) -> "Baseline":
        return cls(
            request=max((c.id for c in closings), default=0),
            rollout=max((r.id for r in rollouts), default=0),
            open=tuple(c.id for c in closings if c.request.active or c.request.status == "waiting"),
            running=tuple(r.id for r in rollouts if r.state.status == "running"),
            recovered=tuple(e.key for e in recoveries if e.kind == "endpoint_up"),
        )

    def until(
        self, before: float, closings: Sequence[Closing], rollouts: Sequence[Rolled], events: Iterable["Event"]
    ) -> "Baseline":
        """The same, moved on: what ended before this time is history too, and its messages need not be kept."""
        request = max([self.request, *(c.id for c in closings if c.at < before)])
        rollout = max([self.rollout, *(r.id for r in rollouts if r.at < before)])
        ended = {c.id for c in closings if c.at < before and not c.request.active and c.request.status != "waiting"}
        returned = {r.id for r in rollouts if r.at < before and r.state.status != "running"}
        ids = [*self.open, *(c.id for c in closings if self.request < c.id <= request)]
        running = [*self.running, *(r.id for r in rollouts if self.rollout < r.id <= rollout)]
        old = (e.key for e in events if e.kind == "endpoint_up" and (e.at < before or e.key in self.recovered))
        return Baseline(
            request=request,
            rollout=rollout,
            open=tuple(i for i in ids if i not in ended),
            running=tuple(i for i in running if i not in returned),
            recovered=tuple(old),
        )

    def covers(self, event: "Event") -> bool:
        """Whether the event is history."""
        if event.kind == "endpoint_up":
            return event.key in self.recovered
        if event.request_id is not None:
            return event.request_id <= self.request and event.request_id not in self.open
        if event.rollout_id is not None:
            return event.rollout_id <= self.rollout and event.rollout_id not in self.running
        return False


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


class Message(Frozen):
    """What a target gets. Stored in the ledger, so it holds no secret."""

    id: str = Field(description="The event's key: the same for each target, and each time that it is sent.")
    project: str
    kind: MessageKind
    at: float = Field(description="When it happened, in epoch seconds.")
    title: str = Field(description="One line.")
    detail: str
    command: str = Field(description="The next command.")
    commit: str | None = None
    subject: str | None = Field(default=None, description="The commit's first line and its author.")
    release: str | None = None
    environment: str | None = None
    run_url: str | None = None
    commit_url: str | None = None

    def text(self, now: float) -> str:
        """The message for people, without its title."""
        late = now - self.at
        lines = [
            self.detail,
            f"commit: {short(self.commit)}" + (f" {self.subject}" if self.subject else "") if self.commit else None,
            f"at: {at_time(self.at)}" + (f" (delayed by {ago(late)})" if late > LATE_AFTER_S else ""),
            f"next: {self.command}",
            f"run: {self.run_url}" if self.run_url else None,
            f"commit page: {self.commit_url}" if self.commit_url else None,
        ]
        return "\n".join(line for line in lines if line)


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
    """Whether an endpoint that was seen down since then, without interruption, is to be called down.

    Args:
        since, now: on one monotonic clock, in seconds.
    """
    return since is not None and now - since >= DOWN_AFTER_S


# -- messages ---------------------------------------------------------------------------------------------------------


def title_of(event: Event) -> str:
    subject = short(event.revision) if event.revision else ""
    release = f"release {short(event.release)}" if event.release else "the release"
    said = {
        "rejected": f"{subject} is rejected",
        "failed": f"{subject} failed" if subject else "the rollback failed",
        "waiting": f"{subject} waits for a person",
        "released": f"{subject} is released",
        "returned": f"{release} was returned by its canary",
        "rolled_back": "production was rolled back",
        "endpoint_down": f"the {event.environment} endpoint is down",
        "endpoint_up": f"the {event.environment} endpoint has recovered",
        "data_old": "the data is old",
        "drift": "users ask for something else than at the release of its test rows",
    }[event.kind]
    return f"{event.project}: {said}"


def next_command(event: Event) -> str:
    """The exact command that a person would run next; WHY stands for the reason that only they know."""
    project = event.project
    if event.kind == "waiting":
        named = {"release": event.release, "report": event.report, "budget": event.budget}
        options = "".join(f" --{name} {digest}" for name, digest in named.items() if digest)
        decide = f'{project}{options} --reason "WHY"'
        return f"llmops approve {decide}   (or: llmops reject {decide})"
    return {
        "rejected": f"llmops status {project}",
        "failed": f"llmops retry {project}" if event.revision else f'llmops rollback {project} --reason "WHY"',
        "released": f'llmops releases {project}   (to undo: llmops rollback {project} --reason "WHY")',
        "returned": f"llmops status {project}",
        "rolled_back": f'llmops status {project}   (to deploy it again: llmops unhold {project} --reason "WHY")',
        "endpoint_down": f"llmops endpoints {project}   (to start it: llmops up)",
        "endpoint_up": f"llmops endpoints {project}",
        "drift": f"llmops status {project}   (to evaluate on such requests: new test rows, then dvc push and git push)",
        "data_old": f"llmops status {project}   (to renew it: dvc update or dvc add, then dvc push and git push)",
    }[event.kind]


def write(
    event: Event, subject: str | None = None, run_url: str | None = None, commit_url: str | None = None
) -> Message:
    """The message about an event.

    Args:
        subject: the commit's first line and author.
    """
    return Message(
        id=event.key,
        project=event.project,
        kind=event.kind,
        at=event.at,
        title=title_of(event),
        detail=excerpt(event.detail, LONGEST_DETAIL),
        command=next_command(event),
        commit=event.revision,
        subject=excerpt(subject, 200) if subject else None,
        release=event.release,
        environment=event.environment,
        run_url=run_url,
        commit_url=commit_url,
    )


def summarize(project: str, left: Sequence[Message], give_up_after: float, now: float, identity: str) -> Message:
    """One message instead of many that could not be delivered in time; none of them is lost without a word."""
    counts = {kind: sum(m.kind == kind for m in left) for kind in KINDS}
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    first, last = min(m.at for m in left), max(m.at for m in left)
    many = "notifications were" if len(left) > 1 else "notification was"
    return Message(
        id=identity,
        project=project,
        kind="undelivered",
        at=now,
        title=f"{project}: {len(left)} older {many} not delivered",
        detail=f"{told}; between {at_time(first)} and {at_time(last)}. Each was older than {ago(give_up_after)} before "
        "this target could be reached.",
        command=f"llmops status {project}",
    )


def test_message(project: str, target: str, now: float, identity: str) -> Message:
    return Message(
        id=identity,
        project=project,
        kind="test",
        at=now,
        title=f"{project}: test notification",
        detail=f"The target {target} of {project}'s notifications works.",
        command=f"llmops status {project}",
    )


# -- attempts ---------------------------------------------------------------------------------------------------------

FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 600.0
LEASE_S = 300.0
"""How long an attempt belongs to the process that makes it. One that dies after sending leaves it to be repeated."""
STUCK_AFTER = 5
"""Failed attempts after which a message no longer holds up those behind it: the message may be the fault."""


def pause_s(tries: int) -> float:
    """Seconds until the next attempt: 5, 10, 20, … 600."""
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries - 1, 20)))


def is_due(due: float, now: float) -> bool:
    """Whether an attempt is due. A time further ahead than any pause was written by a clock that was set back."""
    return now >= due or due - now > LONGEST_PAUSE_S + LEASE_S
