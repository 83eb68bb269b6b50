"""`llmops notify`: sends the notifications that are due, or a test message."""

import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from llmops_assets.cli.context import (
    AsJson,
    CommandContext,
    CommandRefused,
    OptionalProject,
    answers,
    emit,
    out,
)
from llmops_assets.cli.tables import say, show

if TYPE_CHECKING:
    from llmops_assets.delivery.notifications import Notifications

app = typer.Typer()


@app.command()
def notify(
    project: OptionalProject = None,
    test: Annotated[bool, typer.Option("--test", help="Send a test message to every target instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a project's notifications that are due, as its sensor does all the time; or a test message."""
    from llmops_assets.delivery.notifications import Notifications

    with answers():
        here = CommandContext(project, fetch=False)
        told = Notifications(here.project, here.clients)
        if not told.targets:
            raise CommandRefused(f"{here.project.name} has no target; add `notifications` to the settings")
        if test:
            _test(told, as_json)
            return
        found = told.run()
        counts = here.ledger.message_counts(here.project.name)
        targets = [
            {
                "target": t.name,
                **{s: n for (name, s), n in sorted(counts.items()) if name == t.name and s != "unwanted"},
            }
            for t in told.targets
        ]
        if as_json:
            emit({**found.model_dump(), "targets": targets})
        else:
            for one in targets:
                rest = ", ".join(f"{count} {status}" for status, count in one.items() if status != "target")
                show([(str(one["target"]), rest or "nothing yet")])
            out.print(str(found), markup=False, soft_wrap=True)
        if found.faults:
            raise CommandRefused("not everything was sent; it is tried again")


def _test(told: "Notifications", as_json: bool) -> None:
    results = told.test(f"{told.project.name}:test:{uuid.uuid4().hex}")
    if as_json:
        emit([{"target": name, "sent": why is None, "why": why} for name, why in results.items()])
    for name, why in () if as_json else results.items():
        say(f"{name}: {'sent' if why is None else f'not sent: {why}'}", style="" if why is None else "red")
    if failed := [name for name, why in results.items() if why is not None]:
        raise CommandRefused(f"no test message reached {', '.join(failed)}")
