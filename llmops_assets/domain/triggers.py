"""Decides what follows when a schedule is due, data has become old, or users ask for something else. Pure.

Each leads to one row of the ledger, whose reason names the time, the data or the drift: that row is the lock, and how a
later tick knows that it was dealt with.
"""

from collections.abc import Sequence

from llmops_assets.domain.formatting import ago, at_time, on_date
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.requests import DATA_AGE, SCHEDULE, Request, Skip, Start, another_generation, newest_planned

COMPLETE = ("released", "done")


class Due(Frozen):
    """A reason to make a stage again: a schedule's newest time that has come, or a drift."""

    cause: str
    """Names one occasion, so it is the same at every tick."""
    at: float
    """Epoch seconds."""
    rebuild: str
    since: float
    """When the trigger was first seen: earlier times are not its own."""

    @property
    def reason(self) -> str:
        return f"{self.cause}: {self.rebuild} again"


def at_schedule(schedule: str, at: float, rebuild: str, since: float) -> Due:
    """A schedule's newest time.

    Args:
        schedule: the cron expression with its time zone.
    """
    return Due(cause=f"schedule {schedule} of {at_time(at)}", at=at, rebuild=rebuild, since=since)


class Scheduled(Frozen):
    """A request to open, and the stages to make again."""

    start: Start
    rebuild: tuple[str, ...]


def next_scheduled(requests: Sequence[Request], due: Sequence[Due]) -> Scheduled | Skip:
    """Decides what the triggers ask for now. What is due together is one run.

    Args:
        requests: the project's requests, oldest first.
        due: the newest occasion of each trigger.
    """
    done = [r.reason for r in requests if r.asked_by == SCHEDULE]
    pending = [d for d in due if d.at > d.since and not any(d.reason in reason for reason in done)]
    if not pending:
        return Skip(reason="no schedule is due")
    asked = "; ".join(d.reason for d in pending)
    if active := [r for r in requests if r.active]:
        return Skip(reason=f"{asked}: waits for {short(active[-1].revision)}, which is {active[-1].status}", waits=True)
    newest = newest_planned([r for r in requests if r.asked_by != SCHEDULE])
    if newest is None:
        return Skip(reason=f"{asked}: waits for the project's first run", waits=True)
    if newest.status not in COMPLETE:
        said = f"{asked}: waits until a commit is released; {short(newest.revision)} is {newest.status}"
        return Skip(reason=said, waits=True)
    generation = another_generation(requests, newest.revision)
    start = Start(revision=newest.revision, generation=generation, reason=asked, base=newest.revision)
    return Scheduled(start=start, rebuild=tuple(dict.fromkeys(d.rebuild for d in pending)))


def old_data(requests: Sequence[Request], version: str, made: float, most_s: float, now: float) -> str | None:
    """The reason to tell people that the data is old; None if it is not, or they were told of this version.

    Args:
        version: of the data.
        made: when it was first read, in epoch seconds.
        most_s: the oldest that it may be, in seconds.
    """
    if now - made <= most_s:
        return None
    reason = f"the data {short(version)} is from {on_date(made)}, older than {ago(most_s)}"
    return None if was_told(requests, DATA_AGE, reason) else reason


def was_told(requests: Sequence[Request], asked_by: str, reason: str) -> bool:
    """Whether the ledger has the row that tells people of this."""
    return any(r.asked_by == asked_by and r.reason == reason for r in requests)
