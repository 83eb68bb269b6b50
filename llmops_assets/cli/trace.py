"""`llmops trace`: everything behind what an endpoint serves."""

from typing import Annotated, Any

import typer

from llmops_assets.cli.context import (
    AsJson,
    CommandContext,
    CommandRefused,
    answers,
    emit,
    err,
    own_settings,
)
from llmops_assets.cli.status import commit_of
from llmops_assets.cli.tables import show_tree
from llmops_assets.domain.desired_serving import ENVIRONMENTS
from llmops_assets.domain.provenance import trace
from llmops_assets.domain.release import release_from_records

app = typer.Typer()


@app.command(name="trace")
def trace_(
    project: Annotated[str | None, typer.Argument(help="Name of the project; optional if there is only one.")] = None,
    what: Annotated[
        str | None, typer.Argument(help="production (the default), staging, a release or a commit.")
    ] = None,
    old_project: Annotated[str | None, typer.Option("--project", hidden=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Show which commit, data, configuration and model an endpoint serves."""
    with answers():
        if old_project is not None:
            err.print("warning: --project is deprecated; use `llmops trace PROJECT WHAT`", soft_wrap=True)
        here, subject = _which(project, what, old_project)
        revision, release = _subject(here, subject)
        values = here.source.at(revision).values
        ledger, name = here.ledger, here.project.name
        records = ledger.records_of(name, revision)
        found = trace(
            name,
            revision,
            values,
            records,
            ledger.edges(name, revision),
            ledger.release(release) if release else None,
            ledger.collected([record.key for record in records.values()]),
        )
        if partial := _partial(here, revision):
            found = {**found, "partial_runs": partial}
        if as_json:
            emit(found)
        else:
            about = {k: v for k, v in commit_of(here, revision).items() if v}
            show_tree({"project": name, "commit": revision, **about, **found})


def _partial(here: CommandContext, revision: str) -> list[dict[str, Any]]:
    """The runs of this commit that were not of the whole chain."""
    return [
        {
            "generation": r.generation,
            "only": list(r.stages),
            **({"model": r.model} if r.model else {}),
            "why": r.reason,
            "status": r.status,
            "detail": r.detail,
        }
        for r in here.ledger.requests(here.project.name)
        if r.revision == revision and r.stages
    ]


def _which(first: str | None, second: str | None, old_project: str | None) -> tuple[CommandContext, str]:
    """The project and what to trace. A single word is a project if one has that name, else what to trace.

    Before, what to trace was the only argument, and the project an option.
    """
    if old_project is not None or second is not None:
        subject = second or (first if old_project else None)
        return CommandContext(old_project or first, fetch=False), subject or ENVIRONMENTS[0]
    known = [p.name for p in own_settings().projects]
    if first is None or (first in known and first not in ENVIRONMENTS):
        return CommandContext(first, fetch=False), ENVIRONMENTS[0]
    return CommandContext(None, fetch=False), first


def _subject(here: CommandContext, what: str) -> tuple[str, str | None]:
    """(revision, release) of the given environment, release or commit."""
    name = here.project.name
    if what in ENVIRONMENTS:
        serving = here.ledger.serving(name, what)
        if serving is None:
            raise CommandRefused(f"{what} of {name} serves nothing yet")
        return serving.revision, serving.release
    if (found := here.ledger.revision_of_release(name, what)) is not None:
        return found
    revision = here.source.git.resolve(what)
    values = here.source.at(revision).values
    release = release_from_records(name, values, here.ledger.resolve(values).records)
    return revision, release.digest if release else None
