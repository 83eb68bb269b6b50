"""The proposals of the bot: which states it has seen, and what became of each.

`llmops_assets.domain.proposals` decides what is proposed; nothing here reads an upstream or pushes a commit.
"""

from typing import Any

from llmops_assets.domain.proposals import Proposal, Status
from resources.ledger import sql
from resources.ledger.transactions import Transactions


class ProposalRows(Transactions):
    """The table `proposals`."""

    def proposals(self, project: str) -> dict[str, list[Proposal]]:
        """A project's proposals by subject, oldest first."""
        p, found = sql.proposals.c, dict[str, list[Proposal]]()
        with self._read() as c:
            for row in c.execute(sql.select(sql.proposals).where(p.project == project).order_by(p.id)):
                fields = {name: row._mapping[name] for name in Proposal.model_fields if name != "row"}
                found.setdefault(row.subject, []).append(Proposal(row=row.id, **fields))
        return found

    def begin_proposal(
        self, project: str, subject: str, number: int, state: str, until: float, status: Status = "begun"
    ) -> Proposal | None:
        """Adds the row of a subject's next state, and takes the first attempt. None: another process was faster.

        Args:
            status: begun; or unchanged, if the branch has that state already.
        """
        now = self.clock()
        row: dict[str, Any] = {
            "project": project, "subject": subject, "number": number, "state": state, "status": status, "base": "",
            "revision": "", "ref": "", "tries": 1, "due": until, "detail": "", "created": now, "updated": now,
        }  # fmt: skip
        try:
            with self._write() as c:
                made = c.execute(sql.insert(sql.proposals).values(row)).inserted_primary_key
        except sql.IntegrityError:
            return None
        return Proposal(row=made[0], **{n: row[n] for n in Proposal.model_fields if n != "row"})  # type: ignore[index]

    def claim_proposal(self, known: Proposal, until: float) -> Proposal | None:
        """Takes the next attempt of a proposal: no other process makes one until then. None: one was faster."""
        p = sql.proposals.c
        free = (p.id == known.row) & (p.tries == known.tries) & (p.due == known.due)
        values = {"tries": known.tries + 1, "due": until, "updated": self.clock()}
        with self._write() as c:
            if c.execute(sql.update(sql.proposals).where(free).values(values)).rowcount != 1:
                return None
        return known.model_copy(update={"tries": known.tries + 1, "due": until})

    def note_commit(self, known: Proposal, base: str, revision: str, ref: str) -> Proposal:
        """Notes the commit of a claimed proposal before it is pushed: so it is known as the bot's after a crash."""
        with self._write() as c:
            self._set_proposal(c, known, base=base, revision=revision, ref=ref)
        return known.model_copy(update={"base": base, "revision": revision, "ref": ref})

    def settle_proposal(self, known: Proposal, project: str, status: Status, detail: str = "") -> None:
        """Notes what became of a claimed proposal."""
        with self._write() as c:
            self._set_proposal(c, known, status=status, detail=detail, due=0.0)
            if status == "proposed":
                what = {"event": "proposed", "project": project, "subject": known.subject}
                self._audit(c, {**what, "revision": known.revision, "ref": known.ref})

    def postpone_proposal(self, known: Proposal, due: float, detail: str) -> None:
        """Notes why a claimed attempt failed, and when the next one is due."""
        with self._write() as c:
            self._set_proposal(c, known, due=due, detail=detail)

    def _set_proposal(self, c: "sql.Connection", known: Proposal, **values: Any) -> None:
        where = sql.proposals.c.id == known.row
        c.execute(sql.update(sql.proposals).where(where).values(**values, updated=self.clock()))
