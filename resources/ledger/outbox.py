"""The outbox of notifications: which message each target still has to get, and what the ledger shows of each project.

`llmops_assets.domain` derives the events and writes the messages; nothing here sends anything.
"""

from collections.abc import Collection as Group
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_assets.domain.models import Frozen
from llmops_assets.domain.notification_baseline import Baseline
from llmops_assets.domain.notification_messages import Message
from llmops_assets.domain.notifications import Closing, Rolled, down_mark, up_mark
from llmops_assets.domain.rollout import RolloutState
from resources.ledger import sql
from resources.ledger.requests import request_of
from resources.ledger.transactions import Transactions

_TOLD, _DOWN, _UP = "notify:", "down:", "up:"
"""Prefixes of the projections that this module keeps: a target's baseline, an endpoint that is down, and the newest
recovery of one."""
FINAL = ("sent", "unwanted", "refused", "summarized")
"""Statuses of messages that are not sent any more."""
_MOST = 500
"""Messages that one round looks at."""


class Waiting(Frozen):
    """A message that a target has not got yet."""

    row: int
    message: Message
    expired: bool
    """Whether it was too old; a summary names it."""
    tries: int
    due: float
    detail: str
    """Why the last attempt failed."""


class Outbox(Transactions):
    """The table `notifications`, and the projections that say what each target knows."""

    def newest_event(self) -> int:
        """The id of the audit trail's end. It is the same as long as nothing in the ledger changed."""
        with self._read() as c:
            return c.execute(sql.select(sql.audit.c.id).order_by(sql.audit.c.id.desc()).limit(1)).scalar() or 0

    def closings(self, project: str) -> list[Closing]:
        """The project's requests with their ids and the times of their last change, oldest first."""
        r = sql.requests.c
        with self._read() as c:
            rows = c.execute(sql.select(sql.requests).where(r.project == project).order_by(r.id)).all()
        return [Closing(id=w.id, request=request_of(w._mapping), at=w.updated) for w in rows]

    def rolled(self, project: str) -> list[Rolled]:
        """The project's rollouts, oldest first."""
        r = sql.rollouts.c
        with self._read() as c:
            rows = c.execute(sql.select(sql.rollouts).where(r.project == project).order_by(r.id)).all()
            return [
                Rolled(id=w.id, revision=w.revision, state=RolloutState.model_validate_json(w.body), at=w.updated)
                for w in rows
            ]

    # -- what is known of targets and endpoints -----------------------------------------------------------------------

    def baseline(self, project: str, target: str) -> Baseline | None:
        """What the ledger held when the target was first seen; None: it was not."""
        found = self._projection(project, _TOLD + target)
        return Baseline.model_validate_json(found) if found else None

    def begin_telling(self, project: str, target: str, baseline: Baseline) -> Baseline:
        """Keeps a target's baseline; the first one counts, also if two processes see a new target at once."""
        name = _TOLD + target
        with self._write() as c:
            found = self._value(c, project, name)
            if found is None:
                found = baseline.model_dump_json()
                c.execute(sql.insert(sql.projections).values(project=project, name=name, value=found))
        return Baseline.model_validate_json(found)

    def told_targets(self, project: str) -> dict[str, Baseline]:
        """Every target that was ever told about the project → its baseline, also those that no settings name now."""
        found = self._projections(project, _TOLD)
        return {target: Baseline.model_validate_json(text) for target, text in found.items()}

    def forget_told(
        self, project: str, target: str, baseline: Baseline, before: float, keep: Group[str], gone: bool, dry_run: bool
    ) -> int:
        """Deletes a target's messages that are done with, and moves its baseline on, in one transaction.

        Args:
            baseline: covers what the messages were about, so that none is written again.
            before: messages last changed before this time may go.
            keep: ids of messages about what the baseline does not cover.
            gone: no settings name the target: what was never delivered goes too.

        Returns:
            Their number.
        """
        n = sql.notifications.c
        old = (n.project == project) & (n.target == target) & (n.updated < before)
        if not gone:
            old &= n.status.in_(FINAL)
        with self._write() as c:
            ids = [row.id for row in c.execute(sql.select(n.id, n.message).where(old)) if row.message not in keep]
            if ids and not dry_run:
                p = sql.projections.c
                here = (p.project == project) & (p.name == _TOLD + target)
                c.execute(sql.update(sql.projections).where(here).values(value=baseline.model_dump_json()))
                for first in range(0, len(ids), _MOST):
                    c.execute(sql.delete(sql.notifications).where(n.id.in_(ids[first : first + _MOST])))
        return len(ids)

    def down(self, project: str) -> dict[str, str]:
        """Environment → mark of each endpoint that is down."""
        return self._projections(project, _DOWN)

    def recovered(self, project: str) -> dict[str, str]:
        """Environment → mark of the endpoint's newest recovery."""
        return self._projections(project, _UP)

    def mark_down(self, project: str, environment: str, release: str) -> None:
        """Notes that an endpoint is down; nothing if that is known, so that one outage is one event."""
        name = _DOWN + environment
        with self._write() as c:
            if self._value(c, project, name) is None:
                value = down_mark(release, self.clock())
                c.execute(sql.insert(sql.projections).values(project=project, name=name, value=value))
                self._audit(c, {"event": "endpoint down", "project": project, "environment": environment})

    def mark_up(self, project: str, environment: str) -> None:
        """Notes that an endpoint that was down is up again; nothing if it was not."""
        name = _DOWN + environment
        with self._write() as c:
            down = self._value(c, project, name)
            if down is None:
                return
            p = sql.projections.c
            c.execute(sql.delete(sql.projections).where((p.project == project) & p.name.in_((name, _UP + environment))))
            mark = up_mark(down, self.clock())
            c.execute(sql.insert(sql.projections).values(project=project, name=_UP + environment, value=mark))
            self._audit(c, {"event": "endpoint up", "project": project, "environment": environment})

    def _projections(self, project: str, prefix: str) -> dict[str, str]:
        p = sql.projections.c
        with self._read() as c:
            rows = c.execute(
                sql.select(p.name, p.value).where((p.project == project) & p.name.startswith(prefix))
            ).all()
        return {row.name.removeprefix(prefix): row.value for row in rows}

    def _projection(self, project: str, name: str) -> str | None:
        with self._read() as c:
            return self._value(c, project, name)

    @staticmethod
    def _value(c: "sql.Connection", project: str, name: str) -> str | None:
        where = (sql.projections.c.project == project) & (sql.projections.c.name == name)
        return c.execute(sql.select(sql.projections.c.value).where(where)).scalar()

    # -- messages -----------------------------------------------------------------------------------------------------

    def known_messages(self, project: str) -> set[tuple[str, str]]:
        """(target, id) of every message that was written for a project."""
        n = sql.notifications.c
        with self._read() as c:
            return {
                (w.target, w.message) for w in c.execute(sql.select(n.target, n.message).where(n.project == project))
            }

    def enqueue(self, target: str, messages: Sequence[Message], status: str = "pending") -> int:
        """Adds the messages that the target does not have yet; returns how many those were.

        Args:
            status: pending, or unwanted: then it is not sent, now or later.
        """
        if not messages:
            return 0
        n, added, now = sql.notifications.c, 0, self.clock()
        with self._write() as c:
            for message in messages:
                same = (n.project == message.project) & (n.target == target) & (n.message == message.id)
                if c.execute(sql.select(n.id).where(same)).first() is not None:
                    continue
                row: Mapping[str, Any] = {
                    "project": message.project, "target": target, "message": message.id, "kind": message.kind,
                    "status": status, "body": message.model_dump_json(), "at": message.at, "tries": 0, "due": 0.0,
                    "detail": "", "updated": now,
                }  # fmt: skip
                c.execute(sql.insert(sql.notifications).values(row))
                added += 1
        return added

    def waiting_messages(self, project: str, target: str | None = None) -> list[tuple[str, Waiting]]:
        """(target, message) of those that are not delivered, the 500 oldest first."""
        n = sql.notifications.c
        where = (n.project == project) & n.status.in_(("pending", "expired"))
        if target is not None:
            where &= n.target == target
        with self._read() as c:
            rows = c.execute(sql.select(sql.notifications).where(where).order_by(n.id).limit(_MOST)).all()
            return [
                (
                    w.target,
                    Waiting(
                        row=w.id, message=Message.model_validate_json(w.body), expired=w.status == "expired",
                        tries=w.tries, due=w.due, detail=w.detail,
                    ),
                )
                for w in rows
            ]  # fmt: skip

    def claim_message(self, waiting: Waiting, until: float) -> bool:
        """Takes the next attempt of a message: no other process makes one until then. False: one was faster."""
        n = sql.notifications.c
        free = (n.id == waiting.row) & (n.tries == waiting.tries) & n.status.in_(("pending", "expired"))
        values = {"tries": waiting.tries + 1, "due": until, "updated": self.clock()}
        with self._write() as c:
            return c.execute(sql.update(sql.notifications).where(free).values(values)).rowcount == 1

    def postpone_message(self, waiting: Waiting, due: float, detail: str) -> None:
        """Notes why a claimed attempt failed, and when the next one is due."""
        self._set([waiting.row], due=due, detail=detail)

    def settle_messages(self, rows: Sequence[int], status: str, detail: str = "") -> None:
        """Notes what became of messages: sent, refused, expired (a summary is due) or summarized."""
        self._set(rows, status=status, detail=detail)

    def _set(self, rows: Sequence[int], **values: Any) -> None:
        n = sql.notifications.c
        with self._write() as c:
            c.execute(sql.update(sql.notifications).where(n.id.in_(rows)).values(**values, updated=self.clock()))

    def message_counts(self, project: str) -> dict[tuple[str, str], int]:
        """(target, status) → number of messages."""
        n = sql.notifications.c
        from sqlalchemy import func

        query = sql.select(n.target, n.status, func.count()).where(n.project == project).group_by(n.target, n.status)
        with self._read() as c:
            return {(w[0], w[1]): w[2] for w in c.execute(query)}
