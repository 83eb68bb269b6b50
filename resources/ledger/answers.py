"""What was posted to code hosts: one row per answer, with the digest of its content and the host's id of it.

`llmops_assets.domain.answers` decides what is to be shown; nothing here posts anything. Only the newest state of an
answer is ever posted, so there is no queue of messages.
"""

from typing import Any

from llmops_assets.domain.models import Frozen
from resources.ledger import sql
from resources.ledger.transactions import Transactions


class Posted(Frozen):
    """One answer, as far as the ledger knows."""

    row: int
    subject: str
    digest: str
    """Of the content that the host shows; empty: none is known to be shown."""
    remote: str
    """The host's id; empty if it is unknown."""
    tries: int
    """Failed attempts since the last success, and one that is being made."""
    due: float
    """When the next attempt may begin, in epoch seconds."""
    detail: str
    """Why the last attempt failed."""


class AnswerRows(Transactions):
    """The table `answers`."""

    def answers(self, project: str, host: str) -> dict[str, Posted]:
        """A project's answers on a host, by subject."""
        a = sql.answers.c
        with self._read() as c:
            rows = c.execute(sql.select(sql.answers).where(a.project == project, a.host == host).order_by(a.id))
            return {w.subject: self._posted(w) for w in rows}

    def claim_answer(self, project: str, host: str, subject: str, known: Posted | None, until: float) -> Posted | None:
        """Takes the next attempt of an answer: no other process makes one until then. None: one was faster.

        Args:
            known: what `answers` returned for it; None: nothing.
        """
        a, now = sql.answers.c, self.clock()
        if known is None:
            row: dict[str, Any] = {
                "project": project, "host": host, "subject": subject, "digest": "", "remote": "", "tries": 1,
                "due": until, "detail": "", "updated": now,
            }  # fmt: skip
            try:
                with self._write() as c:
                    made = c.execute(sql.insert(sql.answers).values(row)).inserted_primary_key
            except sql.IntegrityError:
                return None
            return Posted(row=made[0], **{k: row[k] for k in Posted.model_fields if k != "row"})  # type: ignore[index]
        free = (a.id == known.row) & (a.tries == known.tries) & (a.due == known.due)
        values = {"tries": known.tries + 1, "due": until, "updated": now}
        with self._write() as c:
            if c.execute(sql.update(sql.answers).where(free).values(values)).rowcount != 1:
                return None
        return known.model_copy(update={"tries": known.tries + 1, "due": until})

    def note_answer(self, posted: Posted, digest: str, remote: str) -> None:
        """Notes that the host shows a claimed answer with this content."""
        self._set_answer(posted, digest=digest, remote=remote, tries=0, due=0.0, detail="")

    def postpone_answer(self, posted: Posted, due: float, detail: str) -> None:
        """Notes why a claimed attempt failed, and when the next one is due."""
        self._set_answer(posted, due=due, detail=detail)

    def _set_answer(self, posted: Posted, **values: Any) -> None:
        with self._write() as c:
            where = sql.answers.c.id == posted.row
            c.execute(sql.update(sql.answers).where(where).values(**values, updated=self.clock()))

    @staticmethod
    def _posted(row: Any) -> Posted:
        fields = {name: row._mapping[name] for name in Posted.model_fields if name != "row"}
        return Posted(row=row.id, **fields)

    def answering_times(self, project: str, revision: str) -> tuple[list[tuple[int, float]], dict[str, float]]:
        """When a commit's requests were made (generation, epoch seconds), and when it got each stage's result."""
        r, e = sql.requests.c, sql.edges.c
        made = sql.select(r.generation, r.created).where(r.project == project, r.revision == revision)
        used = sql.select(e.stage, e.updated).where(e.project == project, e.revision == revision)
        with self._read() as c:
            requests = [(w.generation, w.created) for w in c.execute(made.order_by(r.generation))]
            return requests, {w.stage: w.updated for w in c.execute(used)}

    def verdicts_since(self, project: str, revision: str, since: float) -> list[str]:
        """A commit's verdicts from then on as JSON, oldest first."""
        v = sql.verdicts.c
        where = (v.project == project) & (v.revision == revision) & (v.created >= since)
        with self._read() as c:
            return [w.body for w in c.execute(sql.select(v.body).where(where).order_by(v.id))]

    def staged(self, project: str, revision: str) -> list[tuple[int, str]]:
        """(row, release) of what a commit had on staging, oldest first."""
        s = sql.servings.c
        where = (s.project == project) & (s.environment == "staging") & (s.revision == revision)
        with self._read() as c:
            return [(w.id, w.release) for w in c.execute(sql.select(s.id, s.release).where(where).order_by(s.id))]
