"""Tells people and other systems what happened to a project: fills the ledger's outbox, and sends what is in it.

`llmops_assets.domain.notifications` decides which events are sent. Nothing here ever stops a run or a release: failures
are stored, reported and retried. Each message is sent once; only if a process is killed between sending a message and
recording that, the message is sent again, with the same id.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llmops_assets.catalog import NOTIFIERS, UnavailablePart
from llmops_assets.config.notifications import NotificationTarget
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.delivery_attempts import LEASE_S, STUCK_AFTER, is_due, pause_s
from llmops_assets.domain.desired_serving import ENVIRONMENTS
from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.keys import digest
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.notification_baseline import Baseline
from llmops_assets.domain.notification_messages import Message, summarize, test_message, write
from llmops_assets.domain.notifications import Event, derive, is_down
from llmops_assets.machine.redaction import redacted
from resources.assembly import Clients
from resources.ledger.outbox import Waiting
from resources.notifications.interface import Notifier, Undeliverable
from resources.project_source.errors import SourceError
from resources.serving.interface import ServingError

ROUND_S = 20.0
"""How long a round sends; the next one continues. An attempt takes up to 10 s where nobody answers."""
FAILURES_OF_A_ROUND = 2
WATCH_EVERY_S = 10.0


class Delivered(Frozen):
    """What a round did, and what it could not do."""

    sent: int = 0
    left: int = 0
    faults: tuple[str, ...] = ()

    def __str__(self) -> str:
        done = f"{self.sent} sent, {self.left} to be sent" if self.sent or self.left else "nothing to send"
        return "; ".join([done, *self.faults])


@dataclass
class Notifications:
    """The notifications of one project. Keep it: it remembers what it has seen, and since when an endpoint is down."""

    project: ProjectSource
    clients: Clients
    clock: Callable[[], float] = time.monotonic
    _seen: int = field(default=-1, init=False)
    _down_since: dict[str, float] = field(default_factory=dict, init=False)
    _watched: float = field(default=float("-inf"), init=False)

    @property
    def targets(self) -> tuple[NotificationTarget, ...]:
        return self.clients.settings.targets(self.project)

    def run(self) -> Delivered:
        """Looks at the endpoints, writes the messages that the ledger calls for, and sends those that are due."""
        if not self.targets:
            return Delivered()
        self.watch()
        self.enqueue()
        return self.deliver()

    # -- what is told -------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Notes in the ledger which endpoints are down, and which are up again."""
        if self.clock() - self._watched < WATCH_EVERY_S:
            return
        self._watched = self.clock()
        ledger, serving, name = self.clients.ledger, self.clients.serving, self.project.name
        try:
            if serving.stopped():  # by a person
                self._down_since.clear()
                return
            endpoints = serving.endpoints(name)
        except ServingError:
            return  # what cannot be looked at is not known to be down
        known, busy = ledger.down(name), ledger.active_request(name) is not None
        for environment in ENVIRONMENTS:
            serves = ledger.serving(name, environment)
            main = next((e for e in endpoints if e.environment == environment), None)
            up = main is not None and main.status in ("serving", "degraded")
            if serves is None or up or (environment == "staging" and busy):  # a run may be replacing its engine
                self._down_since.pop(environment, None)
                if up and environment in known:
                    ledger.mark_up(name, environment)
                continue
            since = self._down_since.setdefault(environment, self.clock())
            if environment not in known and is_down(since, self.clock()):
                ledger.mark_down(name, environment, serves.release)

    def enqueue(self) -> int:
        """Writes the messages that the ledger calls for and that the outbox does not have; returns how many."""
        ledger, name = self.clients.ledger, self.project.name
        newest = ledger.newest_event()  # before the rest, so that a change meanwhile is seen the next time
        if newest == self._seen:
            return 0
        closings, rollouts = ledger.closings(name), ledger.rolled(name)
        events = derive(name, closings, rollouts, ledger.down(name), ledger.recovered(name))
        # Before the baselines: `forget_told` moves a baseline on before it deletes what that covers.
        known, added = ledger.known_messages(name), 0
        for target in self.targets:
            baseline = ledger.baseline(name, target.name)
            if baseline is None:
                baseline = ledger.begin_telling(name, target.name, Baseline.of(closings, rollouts, events))
            new = [e for e in events if (target.name, e.key) not in known and not baseline.covers(e)]
            added += ledger.enqueue(target.name, [self._message(e) for e in new if e.kind in target.events])
            # Kept as not wanted: a filter that is widened later does not bring old events back.
            ledger.enqueue(target.name, [write(e) for e in new if e.kind not in target.events], "unwanted")
        self._seen = newest
        return added

    def _message(self, event: Event) -> Message:
        ui = self.clients.settings.ui("dagster")
        subject = None
        if event.revision:
            try:
                git = self.clients.sources(self.project).git
                subject = f"{git.message(event.revision)} ({git.author(event.revision)})"
            except (SourceError, OSError):
                subject = None  # the mirror may not have it, and the message matters more
        event = event.model_copy(update={"detail": redacted(event.detail)})
        return write(
            event,
            redacted(subject) if subject else None,
            f"{ui}/runs/{event.run_id}" if ui and event.run_id else None,
            self.project.commit_page(event.revision) if event.revision else None,
        )

    # -- how it is told -----------------------------------------------------------------------------------------------

    def deliver(self) -> Delivered:
        """Sends what is due to each target; a target that fails does not delay the others for long."""
        sent, faults = 0, []
        for target in self.targets:
            done, fault = self._to(target)
            sent += done
            faults += [f"{target.name}: {fault}"] if fault else []
        left = len(self.clients.ledger.waiting_messages(self.project.name))
        return Delivered(sent=sent, left=left, faults=tuple(faults))

    def test(self, identity: str) -> dict[str, str | None]:
        """Sends a test message to every target, past the outbox; returns target → why it failed, None if it did not."""
        found: dict[str, str | None] = {}
        now = self.clients.ledger.clock()
        for target in self.targets:
            message = test_message(self.project.name, target.name, now, f"{identity}:{target.name}")
            try:
                _notifier(target).send(message, now)
                found[target.name] = None
            except Exception as error:
                found[target.name] = _why(error)
        return found

    def _to(self, target: NotificationTarget) -> tuple[int, str | None]:
        """Sends a target's messages, oldest first; returns how many, and what is wrong with it."""
        ledger, name = self.clients.ledger, self.project.name
        waiting = [w for _, w in ledger.waiting_messages(name, target.name)]
        now = ledger.clock()
        if old := [w.row for w in waiting if not w.expired and now - w.message.at > target.give_up_after]:
            ledger.settle_messages(old, "expired")
            waiting = [w for _, w in ledger.waiting_messages(name, target.name)]
        if not waiting:
            return 0, None
        try:
            notifier = _notifier(target)
        except Exception as error:
            return 0, _why(error)
        sent, failures, fault, until = 0, 0, None, self.clock() + ROUND_S
        for head, rows, message in self._queue(target, waiting, now):
            if not is_due(head.due, now):
                fault = fault or head.detail or None
                if head.tries < STUCK_AFTER:
                    break  # messages keep their order
                continue
            if self.clock() > until or not ledger.claim_message(head, now + LEASE_S):
                break
            try:
                notifier.send(message, now)
            except Exception as error:
                fault = _why(error)
                if isinstance(error, Undeliverable) and error.refused:
                    ledger.settle_messages(rows, "refused", fault)
                    continue
                ledger.postpone_message(head, ledger.clock() + pause_s(head.tries + 1), fault)
                failures += 1
                if failures >= FAILURES_OF_A_ROUND or head.tries + 1 < STUCK_AFTER:
                    break
            else:
                sent += len(rows)
                ledger.settle_messages(rows, "summarized" if head.expired else "sent")
        return sent, fault

    def _queue(
        self, target: NotificationTarget, waiting: Sequence[Waiting], now: float
    ) -> list[tuple[Waiting, list[int], Message]]:
        """(first row, all rows, message): one summary of all that are too old, then the others."""
        expired = [w for w in waiting if w.expired]
        queue = [(w, [w.row], w.message) for w in waiting if not w.expired]
        if expired:
            rows = [w.row for w in expired]
            identity = f"{self.project.name}:undelivered:{digest([target.name, rows])[:16]}"
            messages = [w.message for w in expired]
            message = summarize(self.project.name, messages, target.give_up_after, now, identity)
            queue.insert(0, (expired[0], rows, message))
        return queue


def forget_told(project: ProjectSource, clients: Clients, before: float, dry_run: bool = False) -> int:
    """Deletes old messages that were delivered, or never will be, from the outbox; returns their number.

    Their events become history for the target, as they are for a new target, so that no message is written twice.
    """
    ledger, name = clients.ledger, project.name
    closings, rollouts = ledger.closings(name), ledger.rolled(name)
    events = derive(name, closings, rollouts, ledger.down(name), ledger.recovered(name))
    configured, deleted = {target.name for target in clients.settings.targets(project)}, 0
    for target, baseline in ledger.told_targets(name).items():
        moved = baseline.until(before, closings, rollouts, events)
        keep = {event.key for event in events if not moved.covers(event)}
        deleted += ledger.forget_told(name, target, moved, before, keep, target not in configured, dry_run)
    return deleted


def _notifier(target: NotificationTarget) -> Notifier:
    """The client of a target.

    Raises:
        ConfigError: a variable that it names is not set.
        UnavailablePart: its package is not installed.
        Undeliverable: the address cannot be used.
    """
    address = target.to if isinstance(target.to, str) else target.to.read()
    token = target.token.read() if target.token else None
    found: Notifier = NOTIFIERS[target.via].load()(address, token)
    return found


def _why(error: Exception) -> str:
    """Why an attempt failed. Of an unexpected error only its type: its text may contain the address."""
    known = isinstance(error, Undeliverable | ConfigError | UnavailablePart)
    return excerpt(redacted(str(error))) if known else f"unexpected {type(error).__name__}"
