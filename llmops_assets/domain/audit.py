"""Verifies the ledger's audit trail: a chain of events, each with the digests of the rows that it wrote.

An event is JSON. Its key `event` says what happened, the others the details; `rows` lists every row that the
transaction wrote, as [table, primary key, digest now, digest before]. An event without `event` has rows only: nothing
that a person decides happened. `taken_over` counts the rows that existed when the trail began to cover rows.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import Field

from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.models import Frozen, Strict

Row = tuple[str, tuple[Any, ...]]
"""Table and primary key."""


class Link(Frozen):
    """One row of the table `audit`."""

    id: int
    at: float
    event: str
    previous: str
    hash: str

    def holds_after(self, previous: str) -> bool:
        return self.previous == previous and self.hash == link_hash(self.previous, self.at, self.event)


def link_hash(previous: str, at: float, event: str) -> str:
    return digest([previous, at, event])


class AuditHead(Strict):
    """The end of the chain at some moment. Kept elsewhere, it proves later that nothing before it was changed."""

    id: int = Field(description="The last event's id.")
    hash: str = Field(description="Its hash, which covers everything before it.")
    at: float = Field(description="When that event happened, in epoch seconds.")


class AuditReport(Frozen):
    """What an audit found."""

    events: int = Field(description="Events, without those that only list rows.")
    covered: int = Field(description="Rows whose digests are in the chain.")
    head: AuditHead | None = None
    findings: tuple[str, ...] = Field(default=(), description="What was altered, removed, or written past the trail.")
    taken_over: dict[str, int] = Field(
        default_factory=dict, description="Table → rows that existed before the trail covered rows."
    )
    taken_over_at: float | None = None


def audit(links: Iterable[Link], present: Mapping[Row, str], name: Callable[[Row], str]) -> AuditReport:
    """Compares the chain with itself, and the rows with the chain.

    Args:
        present: row → its digest now.
        name: how a row is called in a finding.
    """
    findings: list[str] = []
    latest: dict[Row, tuple[str | None, Link]] = {}
    taken_over: dict[str, int] = {}
    taken_over_at: float | None = None
    events, last, previous = 0, None, ""
    for link in links:
        if not link.holds_after(previous):
            findings.append(f"audit event {link.id} was altered, or the one before it removed")
        previous, last = link.hash, link
        what = _read(link)
        if what is None:
            continue
        events += "event" in what
        if isinstance(what.get("taken_over"), dict):
            taken_over, taken_over_at = what["taken_over"], link.at
        for table, key, after, before in _rows(what):
            row = (str(table), tuple(key))
            known, by = latest.get(row, (None, None))
            if known != before:
                findings.append(f"{name(row)}: {_between(known, before, by)} before event {link.id}")
            latest[row] = (after, link)
    for row, (known, by) in latest.items():
        if known is not None and row not in present:
            findings.append(f"{name(row)}: removed; {_written(by)}")
        elif known is not None and present[row] != known:
            findings.append(f"{name(row)}: altered; {_written(by)}")
    for row in present:
        if latest.get(row, (None,))[0] is None:
            findings.append(f"{name(row)}: not covered: it was written past the audit trail, not by llmops")
    head = AuditHead(id=last.id, hash=last.hash, at=last.at) if last else None
    covered = sum(known is not None for known, _ in latest.values())
    return AuditReport(
        events=events,
        covered=covered,
        head=head,
        findings=tuple(findings),
        taken_over=taken_over,
        taken_over_at=taken_over_at,
    )


def compare_head(head: AuditHead, links: Iterable[Link]) -> str | None:
    """Why the chain does not continue from an earlier head; None if it does."""
    found = next((link for link in links if link.id == head.id), None)
    if found is None:
        return f"audit event {head.id} is gone: the chain was cut off, or it is another ledger's"
    if found.hash != head.hash:
        return f"audit event {head.id} has another hash: the chain was rewritten up to there, or it is another ledger's"
    return None


def _read(link: Link) -> dict[str, Any] | None:
    try:
        what = json.loads(link.event)
    except ValueError:
        return None  # its hash does not hold, which is reported
    return what if isinstance(what, dict) else None


def _rows(what: Mapping[str, Any]) -> Iterable[tuple[str, list[Any], str | None, str | None]]:
    rows = what.get("rows")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, list) and len(row) == 4 and isinstance(row[1], list):
            yield tuple(row)


def _between(known: str | None, before: str | None, by: Link | None) -> str:
    if known is None:
        return "not covered: it was written past the audit trail,"
    return ("altered" if before is not None else "removed") + f" after event {by.id if by else '?'} and"


def _written(link: Link | None) -> str:
    if link is None:
        return "its event is unknown"
    what = _read(link) or {}
    details = ", ".join(
        f"{name} {short(str(what[name]))}" for name in ("project", "release", "revision", "request") if what.get(name)
    )
    said = f" ({what['event']}{': ' if details else ''}{details})" if what.get("event") else ""
    return f"event {link.id}{said} wrote it"
