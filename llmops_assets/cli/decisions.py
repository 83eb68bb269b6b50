"""Commands for human decisions: `llmops approve`, `reject`, `rollback` and `unhold`."""

import time
from contextlib import suppress
from typing import Annotated

import typer

from llmops_assets.cli.context import (
    CommandContext,
    CommandRefused,
    OptionalProject,
    answers,
    out,
)
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.approvals import Decided, Refused, decide
from llmops_assets.delivery.budgets import BudgetDecided, decide_budget
from llmops_assets.delivery.report_reviews import ReviewDecided, decide_review, to_review
from llmops_assets.domain.approval import Ask, Choice
from llmops_assets.domain.budget import BudgetAsk
from llmops_assets.domain.chain import AFTER_APPROVAL
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.keys import short
from llmops_assets.domain.report_review import ReviewAsk
from llmops_assets.domain.requests import Request
from llmops_assets.domain.rollback import NoTarget
from resources.ledger import Conflict
from resources.project_source.identity import local_identity

app = typer.Typer(rich_markup_mode=None)
Reason = Annotated[str, typer.Option(help="Why; kept in the ledger's audit trail.")]
Release = Annotated[
    str | None, typer.Option(help="Digest of the release, or at least its first 6 characters; optional.")
]
Report = Annotated[
    str | None,
    typer.Option(help="Digest of the evaluation report that waits for review, or at least its first 6 characters."),
]
BudgetOf = Annotated[
    str | None,
    typer.Option(
        metavar="COMMIT", help="Commit whose run waits because of its budget, or at least its first 6 characters."
    ),
]
_HOW_MANY = {2: "two", 3: "three"}
WHO = (
    "Your name is LLMOPS_USER, otherwise Git's user.email. It is not authentication: anyone with write access to the "
    "ledger can use any name. An author of the change cannot approve it."
)


def _me() -> str:
    """The name of the person who decides.

    Raises:
        ConfigError: no name is configured.
    """
    if not (me := local_identity()):
        raise ConfigError(["no user name: set LLMOPS_USER, or `git config --global user.email`"])
    return me


def _decide(
    project: str | None, choice: Choice, release: str | None, report: str | None, budget: str | None, reason: str
) -> tuple[CommandContext, Decided | ReviewDecided | BudgetDecided]:
    """Decides on what waits: a budget, an evaluation report, or a release."""
    me = _me()
    named = {"--release": release, "--report": report, "--budget": budget}
    if len(given := [option for option, value in named.items() if value is not None]) > 1:
        raise ConfigError([f"{' and '.join(given)} are {_HOW_MANY[len(given)]} decisions: give one of them"])
    here = CommandContext(project, fetch=False)  # its run fetched the commits; do not wait for an unreachable remote
    try:
        if budget is not None or (not given and _waits_for_budget(here)):
            return here, decide_budget(here.source, here.ledger, here.clients.store, choice, me, reason, budget)
        if report is not None or (release is None and _waits_for_review(here)):
            return here, decide_review(here.source, here.ledger, choice, me, reason, report)
        return here, decide(here.source, here.ledger, choice, me, reason, release)
    except (Refused, Conflict) as error:
        raise CommandRefused(f"decision refused: {error}") from error


def _waits_for_budget(here: CommandContext) -> bool:
    waiting = [r for r in here.ledger.requests(here.project.name) if r.status == "waiting"]
    return bool(waiting) and waiting[-1].waits_for_budget


def _waits_for_review(here: CommandContext) -> bool:
    with suppress(Refused):
        to_review(here.source, here.ledger)
        return True
    return False


@app.command(help=f"Approve the waiting release, evaluation report or budget; it proceeds. {WHO}")
def approve(
    reason: Reason,
    project: OptionalProject = None,
    release: Release = None,
    report: Report = None,
    budget: BudgetOf = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Continue in this process and wait; required if no daemon is running.")
    ] = False,
) -> None:
    with answers():
        here, done = _decide(project, "approved", release, report, budget, reason)
        name, sha = here.project.name, short(_revision(done))
        if isinstance(done, BudgetDecided):
            cost = done.decision.ask.cost
            most = f"up to {figure(cost)} {here.settings.compute.currency}" if cost is not None else "an unknown amount"
            out.print(f"the run of {sha} may cost {most}: approved by {done.decision.by}", soft_wrap=True)
        elif isinstance(done, ReviewDecided):
            out.print(f"evaluation report {short(done.decision.ask.report)} of {sha} is accepted by {done.decision.by}")
            if done.state.pending is not None:
                out.print("; ".join(done.state.pending.reasons), markup=False)
                return
        else:
            ask = done.decision.ask
            instead = f"instead of {short(ask.replaces)}" if ask.replaces else "as the first release"
            out.print(f"{short(ask.release)} of {sha} is approved {instead} by {done.decision.by}")
        if done.request is None:
            out.print(f"no run waits for it; `llmops run {name} --revision {sha}` continues")
        elif not wait:
            out.print(
                f"the daemon continues; `llmops status {name}` shows the progress, `--wait` works without a daemon"
            )
        else:
            _continue(here, done, done.request)


def _revision(done: Decided | ReviewDecided | BudgetDecided) -> str:
    return done.decision.ask.revision if isinstance(done, BudgetDecided) else done.decision.revision


def _continue(here: CommandContext, done: Decided | ReviewDecided | BudgetDecided, request: Request) -> None:
    """Runs what the decision was missing for, in this process."""
    from llmops_assets.cli.execution import execute, resume_decided

    try:
        again = resume_decided(here.ledger, request, done.why)
    except Conflict as error:
        raise CommandRefused(f"approved, but not continued by this command: {error}") from error
    execute(here.clients, here.source, again, AFTER_APPROVAL if isinstance(done, Decided) else None, out.print)
    now = here.ledger.now(again)
    if now.status not in ("released", "done"):
        raise CommandRefused(f"{short(now.revision)} is {now.detail if now.status == 'waiting' else _ended(now)}")
    out.print(f"{short(now.revision)} is {_ended(now)}")


def _ended(request: Request) -> str:
    return f"{request.status}: {request.detail}"


@app.command(help=f"Reject the waiting release, evaluation report or budget; production is unchanged. {WHO}")
def reject(
    reason: Reason,
    project: OptionalProject = None,
    release: Release = None,
    report: Report = None,
    budget: BudgetOf = None,
) -> None:
    with answers():
        _, done = _decide(project, "rejected", release, report, budget, reason)
        ask = done.decision.ask
        what = f"evaluation report {short(ask.report)}" if isinstance(ask, ReviewAsk) else short(_subject(ask))
        out.print(f"{what} is rejected by {done.decision.by}; production is unchanged")


@app.command()
def rollback(
    reason: Reason,
    project: OptionalProject = None,
    to: Annotated[
        str | None,
        typer.Option(help="A release that production served before; default: the previous one."),
    ] = None,
) -> None:
    """Roll production back to an earlier release within seconds; the current one is held until `llmops unhold`."""
    from llmops_assets.cli.execution import roll_back

    with answers():
        me = _me()
        if not reason.strip():
            raise ConfigError(["--reason is empty: a rollback needs a reason, which is kept in the ledger"])
        here = CommandContext(project, fetch=False)
        name = here.project.name
        try:
            target, revision = here.ledger.rollback_target(name, to)
        except NoTarget as error:
            raise CommandRefused(str(error)) from error
        out.print(f"rolling production of {name} back to {short(target)} of {short(revision)}")
        began = time.monotonic()
        succeeded, said = roll_back(here.settings, here.project, target, reason.strip(), me)
        if not succeeded:
            raise CommandRefused(f"the rollback failed: {said}")
        for hold in here.ledger.holds(name):
            out.print(f"held: {hold}", markup=False)
        out.print(f"production serves {short(target)} after {time.monotonic() - began:.1f} s")


@app.command()
def unhold(reason: Reason, project: OptionalProject = None, release: Release = None) -> None:
    """Lift the hold on rolled-back releases, so that they may be deployed again."""
    with answers():
        me = _me()
        here = CommandContext(project, fetch=False)
        name = here.project.name
        held = [h.release for h in here.ledger.holds(name)]
        chosen = [r for r in held if release is None or (len(release) >= 6 and r.startswith(release))]
        lifted = here.ledger.lift(name, chosen, me, reason)
        if not lifted:
            known = ", ".join(short(r) for r in held) or "none"
            raise CommandRefused(f"no such release of {name} is held (held: {known})")
        out.print(
            f"lifted: {', '.join(short(r) for r in lifted)}; `llmops retry {name}` or the next commit deploys again"
        )


def _subject(ask: Ask | BudgetAsk) -> str:
    return ask.release if isinstance(ask, Ask) else ask.revision
