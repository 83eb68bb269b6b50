"""Writes the messages about events: title, reasons and the next command. Pure.

`llmops_assets.domain.notifications` derives the events; `resources.notifications` sends the messages.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from llmops_assets.domain.formatting import ago, at_time, excerpt
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.notifications import KINDS, Event, EventKind

MessageKind = Literal[EventKind, "undelivered", "test"]
LATE_AFTER_S = 600.0
"""A message that is sent later than this after its event says so."""
LONGEST_DETAIL = 1500
"""Characters. Slack, Teams and others cut or refuse messages above 3,000 to 4,000."""


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
    """One message instead of many that could not be delivered in time; so none is lost silently."""
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
