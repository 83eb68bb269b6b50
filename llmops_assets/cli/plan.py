"""`llmops plan`: what a run would do, as text, Markdown and JSON."""

from contextlib import suppress
from typing import Annotated

import typer

from llmops_assets.cli.context import (
    AsJson,
    CommandContext,
    OptionalProject,
    Revision,
    answers,
    emit,
    out,
    own_settings,
)
from llmops_assets.cli.tables import say, show
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.gate_power import forecast
from llmops_assets.delivery.plan_report import plan_report
from llmops_assets.delivery.planning import planned_revision
from llmops_assets.domain.keys import short
from llmops_assets.domain.plan import Plan, prompt_retrains
from llmops_assets.domain.plan_markdown import markdown
from llmops_assets.domain.plan_report import PlanReport
from resources.project_source.errors import SourceError

app = typer.Typer()
SHOWN_GATES = 8
"""Conditions of gates whose power a plan prints; a gate per slice may have hundreds."""


@app.command()
def plan(
    project: OptionalProject = None,
    at: Annotated[
        str | None, typer.Argument(metavar="[REVISION]", help="Commit, tag or branch; default: head of the branch.")
    ] = None,
    revision: Revision = None,
    against: Annotated[
        str | None, typer.Option(help="Compare with this revision instead of the last planned one.")
    ] = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a pull request or a job's summary.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a run would compute and reuse, why, how long it takes, what it costs, and what it will be asked."""
    with answers():
        here, named = _planned(project, at, revision)
        if as_markdown and as_json:
            raise ConfigError(["--markdown and --json are two formats: give one of them"])
        found = here.plan(here.revision(named), against)
        candidate = planned_revision(here.source, here.ledger, here.clients.store, found.revision)
        report = plan_report(candidate, found)
        canary, gates = _canary(here, found), forecast(candidate)
        hint = prompt_retrains(here.source.at(found.revision).values, found)
        if as_json:
            emit(
                {
                    "project": found.project,
                    "revision": found.revision,
                    "stages": [s.model_dump(include={"stage", "action", "reasons", "key"}) for s in found.stages],
                    "gates": [
                        {**p.model_dump(), "probably_undecided": p.probably_undecided, "text": p.text}
                        for p in gates.powers
                    ],
                    "gates_unknown": gates.notes,
                    "canary": canary,
                    "policy": found.policy,
                    **report.beside_the_plan,
                }
            )
            return
        more = [*([f"canary: {canary}"] if canary else []), *([f"hint: {hint}"] if hint else [])]
        if as_markdown:
            out.print(markdown(report, gates.lines, more), markup=False, soft_wrap=True, end="")
            return
        show_report(report)
        for text in gates.lines[:SHOWN_GATES]:
            say(f"gate: {text}", 2)
        if len(gates.lines) > SHOWN_GATES:
            say(f"and {len(gates.lines) - SHOWN_GATES} more conditions of gates: see --json", 2)
        for text in more:
            out.print(text, markup=False)


def _planned(project: str | None, at: str | None, revision: str | None) -> tuple[CommandContext, str | None]:
    """The project and the revision to plan. A single word is a project if one has that name, else a revision."""
    if at is not None and revision is not None:
        raise ConfigError([f"two revisions are named, {at} and {revision}: give one of them"])
    if project is not None and at is None:
        names = [p.name for p in own_settings().projects]
        if project not in names and len(names) == 1 and revision is None:
            here = CommandContext(None)
            with suppress(SourceError):
                here.source.git.resolve(project)
                return here, project
    return CommandContext(project), at or revision


def _canary(here: CommandContext, found: Plan) -> str | None:
    """How well the rollout's rules tell releases apart; None if nothing will be rolled out."""
    if found["production_endpoint"].action == "reuse":
        return None
    from llmops_assets.domain.canary_power import in_words

    return in_words(here.source.at(found.revision).policy.rollout)


def show_plan(here: CommandContext, found: Plan) -> None:
    """Prints a plan as `llmops plan` does."""
    candidate = planned_revision(here.source, here.ledger, here.clients.store, found.revision)
    show_report(plan_report(candidate, found))


def show_report(report: PlanReport) -> None:
    """Prints a plan; stages that depend on results of this run are one line, because nothing is known of them yet."""
    found = report.plan
    against = f" against {short(found.base)}" if found.base else ""
    say(f"{found.project} at {short(found.revision)}{against}", style="bold")
    if report.changes:
        for change in report.changes:
            say(f"{change.where}: {change.what}", 2)
        say("")
    show([(line.stage, line.action, line.why) for line in report.lines if line.stage not in report.new], indent=2)
    if then := [s.stage for s in found.stages if s.action == "decide_later"]:
        say(f"then {', '.join(then)}", 2)
        if report.new.issuperset(then):
            say("each runs: no history yet, so there is nothing to reuse", 4, "dim")
        else:
            say(
                "each is computed, or reused if its inputs turn out unchanged, when the results before it are known",
                4,
                "dim",
            )
    if report.estimate.stages:
        say(f"estimate: {report.estimate.text}", 2)
    if report.budget:
        say(report.budget.says, 2, "yellow" if report.budget.waits else "")
    for text in report.lacks:
        say(f"missing: {text}", 2, "yellow")
    if report.asked:
        say(f"asked: {'; '.join(f'{one.stage}: {one.condition}' for one in report.asked)}", 2)
    for text in found.policy:
        say(f"policy: {text}", 2)
