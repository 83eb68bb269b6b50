"""Commands about stored state: gc, backup, restore."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from llmops_assets.cli.context import AsJson, CommandRefused, answers, emit, own_settings
from llmops_assets.cli.tables import say, show
from llmops_assets.domain.formatting import size

app = typer.Typer()


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be collected.")] = False,
    as_json: AsJson = False,
    sole_ledger: Annotated[
        bool,
        typer.Option(
            "--sole-ledger",
            help="No other ledger uses the store any more: forget those that did, and collect what only they knew.",
        ),
    ] = False,
) -> None:
    """Collect unneeded results, caches and old logs. Safe while runs and endpoints are active.

    Kept in any case: what is served, held, approved, waiting or running, and the audit trail. The settings' `gc` says
    how long other things are kept.
    """
    import dagster as dg

    from llmops_assets.delivery.garbage import Busy, Collector
    from resources.assembly import build_clients
    from resources.local_services.services import dagster_home

    with answers():
        settings = own_settings()
        with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
            try:
                report = Collector(build_clients(settings), instance, dry_run, sole_ledger=sole_ledger).run()
            except Busy as error:
                raise CommandRefused(str(error)) from error
        if as_json:
            emit({"freed_bytes": report.bytes, **report.model_dump()})
            return
        if report.items:
            show([(i.kind, i.name, size(i.bytes), i.why) for i in report.items], ("kind", "name", "size", "why"))
        kinds = Counter(item.kind for item in report.items)
        what = ", ".join(f"{count} × {kind}" for kind, count in kinds.items()) or "nothing"
        say(f"{'would free' if dry_run else 'freed'} {size(report.bytes)}: {what}")
        say(f"results of {len(report.roots)} revisions and releases are kept; `llmops gc --json` says which, and why")
        for text in report.left:
            say(f"left alone: {text}")


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one with an earlier backup.")],
    without_ledger: Annotated[
        bool, typer.Option("--without-ledger", help="Leave the ledger out: you back it up on its own server.")
    ] = False,
) -> None:
    """Copy ledger, artifacts, MLflow and mirrors into a folder. Safe while runs and endpoints are active."""
    from llmops_assets.delivery.backup import CannotBackUp, back_up
    from resources.assembly import build_clients

    with answers():
        try:
            done = back_up(build_clients(own_settings()), folder.expanduser().absolute(), say, not without_ledger)
        except CannotBackUp as error:
            raise CommandRefused(str(error)) from error
        for text in done.missing:
            say(f"not in the backup: {text}")
        say(f"{folder} is complete; `llmops restore {folder}` restores it into an empty home")


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `llmops backup` has filled.")],
) -> None:
    """Restore a backup into an empty home: LLMOPS_HOME, or the `home` of the settings."""
    from llmops_assets.delivery.backup import CannotBackUp
    from llmops_assets.delivery.backup import restore as restore_from
    from resources.assembly import build_clients

    with answers():
        settings = own_settings()
        try:
            done = restore_from(build_clients(settings), folder.expanduser().absolute(), say)
        except CannotBackUp as error:
            raise CommandRefused(str(error)) from error
        say(f"restored into {settings.home}; `llmops up` starts it")
        if not settings.projects and (folder / "settings.yaml").is_file():
            kept = folder / "settings.yaml"
            say(f"no project is watched yet; {kept} has the settings of {done.home}: set LLMOPS_SETTINGS to a copy")
