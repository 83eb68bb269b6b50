"""`llmops audit`: verifies the ledger and prints its audit trail."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from llmops_assets.cli.audit_heads import read_head, uncovered, write_head
from llmops_assets.cli.context import (
    AsJson,
    CommandRefused,
    answers,
    emit,
    out,
    own_settings,
)
from llmops_assets.cli.tables import plain, show
from llmops_assets.domain.formatting import at_time, iso
from llmops_assets.domain.keys import short

app = typer.Typer(rich_markup_mode=None)
_DIGESTS = re.compile(r"\b[0-9a-f]{40,64}\b")


def _readable(name: str, value: Any) -> str:
    """A value of an event as people write it: digests shortened, times as such."""
    if name == "since" and isinstance(value, float):
        return at_time(value)
    return _DIGESTS.sub(lambda found: short(found[0]), plain(value))


@app.command()
def audit(
    as_json: AsJson = False,
    last: Annotated[int, typer.Option(help="Number of events to print; 0: all.")] = 50,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the chain's head to this file, to keep it elsewhere; only if intact."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Verify that the chain continues from a head that --export wrote earlier."),
    ] = None,
) -> None:
    """Verify the ledger's audit trail and every row that it covers, and print its events.

    Names each row of the ledger that was altered, removed, or written past the trail, and each event of the trail that
    was. Someone who can write to the ledger can also rewrite the whole trail, or cut off its end: only a head that was
    exported before, and kept where they cannot write, shows that (--export, --against).
    """
    from resources.assembly import build_clients

    with answers():
        ledger = build_clients(own_settings()).ledger
        earlier = read_head(against) if against else None
        report, events = ledger.audit(), ledger.events()
        findings = list(report.findings)
        if earlier is not None and (broken := ledger.continues(earlier)):
            findings.append(f"{broken} (head of {against})")
        head = report.head.hash if report.head else ""
        shown = events[-last:] if last else events
        if export and not findings:
            write_head(export, report.head)
        if as_json:
            emit(
                {
                    "verified": not findings,
                    "findings": findings,
                    "not_covered_before_upgrade": report.taken_over,
                    "rows_covered": report.covered,
                    "events_total": report.events,
                    "head": head,
                    "events": shown,
                }
            )
            if findings:
                raise typer.Exit(1)
            return
        for event in shown:
            at = iso(event["at"])
            rest = {
                k: v for k, v in event.items() if k not in ("id", "at", "event", "hash") and v not in (None, "", [])
            }
            said = ", ".join(f"{name} {_readable(name, value)}" for name, value in rest.items())
            show([(f"{event['id']:>5}", at, f"{event['event']}: {said}" if said else event["event"])])
        for text in uncovered(report):
            out.print(text, soft_wrap=True)
        if findings:
            raise CommandRefused("\n".join(["the ledger was changed past its audit trail:", *findings]))
        out.print(
            f"the chain of {report.events} events is intact, with all {report.covered} rows that it covers; its last "
            f"hash is {head or 'none yet'}",
            soft_wrap=True,
        )
        if earlier is not None:
            out.print(
                f"it continues from the head in {against}: event {earlier.id} of {iso(earlier.at)}", soft_wrap=True
            )
        if export and report.head is not None:
            out.print(f"the head, event {report.head.id}, is in {export}", soft_wrap=True)
