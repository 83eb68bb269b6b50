"""Commands about runs: plan, run, retry, cancel."""

import time
from contextlib import suppress
from typing import Annotated

import typer

from llmops_assets.cli.context import (
    AsJson,
    CommandContext,
    CommandRefused,
    OptionalProject,
    Revision,
    answers,
    emit,
    err,
    out,
    own_settings,
)
from llmops_assets.cli.tables import say, show
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.gate_power import forecast
from llmops_assets.delivery.plan_report import plan_report
from llmops_assets.delivery.planning import planned_revision
from llmops_assets.domain.chain import STAGES
from llmops_assets.domain.keys import short
from llmops_assets.domain.plan import Plan, prompt_retrains
from llmops_assets.domain.plan_markdown import markdown
from llmops_assets.domain.plan_report import PlanReport
from llmops_assets.domain.requests import Request
from resources.ledger import Conflict
from resources.project_source.errors import SourceError
from resources.serving.interface import ServingError

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
    show([(line.stage, line.action, line.why) for line in report.lines], indent=2)
    if report.later:
        say(f"then {', '.join(report.later)}", 2)
        say(
            "each is computed, or reused if its inputs turn out unchanged, when the results before it are known",
            4,
            "dim",
        )
    if report.estimate.stages:
        say(f"estimate: {report.estimate.text}", 2)
    for one in report.asked:
        say(f"asked by {one.stage}: {one.condition}", 2)
    for text in found.policy:
        say(f"policy: {text}", 2)


@app.command()
def run(
    project: OptionalProject = None,
    revision: Revision = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only this stage; repeatable.")] = None,
    rebuild: Annotated[str | None, typer.Option(help="Recompute this stage even if a result exists.")] = None,
    reason: Annotated[str | None, typer.Option(help="Reason for --rebuild; kept in the ledger.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run has ended, and show its progress.")] = False,
    remote: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With --wait: run it at the Dagster of this URL; for CI systems."),
    ] = None,
) -> None:
    """Run the chain at a revision. Works with or without a daemon; nothing runs twice."""
    with answers():
        if remote is not None:
            _run_remotely(remote, project, revision, wait, bool(only or rebuild or reason))
            return
        for stage in [*(only or ()), *([rebuild] if rebuild else ())]:
            if stage not in STAGES:
                raise ConfigError([f"no such stage: {stage!r} (known: {', '.join(STAGES)})"])
        if rebuild and not reason:
            raise ConfigError(["--rebuild needs --reason, which is kept in the ledger"])
        here = CommandContext(project)
        sha = here.revision(revision)
        at = here.source.at(sha)
        if missing := here.source.missing_data(at):
            raise CommandRefused(
                f"{short(sha)} waits for data: {', '.join(missing)} is not in the DVC remote; run `dvc push`"
            )
        if rebuild:
            key = next((s.key for s in here.plan(sha).stages if s.stage == rebuild), None)
            if key is None:
                raise CommandRefused(f"{rebuild} cannot be rebuilt yet: its inputs do not exist at {short(sha)}")
            outputs = here.ledger.resolve(at.values).outputs
            here.ledger.rebuild(STAGES[rebuild].key(at.values, outputs), reason or "")
        found = here.plan(sha)
        if found.nothing_to_do and not only:
            out.print(f"{short(sha)}: nothing to do, {found['production_endpoint'].reasons[0]}")
            return
        _start(here, sha, found, reason or "requested by a person", only, wait)


def _run_remotely(url: str, project: str | None, revision: str | None, wait: bool, others: bool) -> None:
    from llmops_assets.cli.remote import RemoteWait, full_sha, remote_job
    from resources.dagster_remote.client import RemoteDagster, RemoteError

    if not wait or others:
        raise ConfigError(["--remote goes with --wait and --revision only"])
    sha = full_sha(revision or "")
    try:
        dagster = RemoteDagster(url, say=lambda text: err.print(text, markup=False, soft_wrap=True))
        job = remote_job(dagster, project)
        found, why = RemoteWait(dagster, job, sha, lambda text: out.print(text, markup=False, soft_wrap=True)).answer()
    except RemoteError as error:
        raise ConfigError([str(error)]) from error
    said = f"{short(sha)} is {found.outcome}"
    if not found.good:
        raise CommandRefused(f"{said}: {why}" if why else f"{said}; see its run at {dagster.url}/runs/{found.run_id}")
    out.print(said)


def _start(here: CommandContext, sha: str, found: Plan, reason: str, only: list[str] | None, wait: bool) -> None:
    from llmops_assets.cli.execution import execute, open_by_person, start_detached

    if "staging_endpoint" in (only or found.to_materialize) and (problem := here.clients.serving.port_problem()):
        raise ServingError(f"not started, because the release could not be served: {problem}")
    try:
        request = open_by_person(here.source, here.ledger, sha, found, reason, partial=bool(only))
    except Conflict as error:
        active = [r for r in here.ledger.requests(here.project.name) if r.active]
        if wait and active and active[-1].revision == sha:
            _await(here, active[-1])
            return
        raise CommandRefused(
            f"not started: {error}. `llmops status` shows the active run; `llmops cancel` stops it"
        ) from error
    show_plan(here, found)
    if found.evaluates_only:
        say(found.evaluates_only)
    if not wait:
        start_detached(here.settings, request, only)
        out.print(f"started; `llmops status {here.project.name}` shows the progress")
        return
    execute(here.clients, here.source, request, only, out.print)
    _answer(here, request)


def _await(here: CommandContext, request: Request) -> None:
    out.print(f"{short(request.revision)} is already running ({request.name}); waiting for it")
    while request.active:
        time.sleep(1)
        request = here.ledger.now(request)
    _answer(here, request)


def _answer(here: CommandContext, request: Request) -> None:
    now = here.ledger.now(request)
    if now.status == "waiting":
        raise CommandRefused(f"{short(now.revision)} is {now.detail}")
    if now.status not in ("released", "done"):
        raise CommandRefused(f"{short(now.revision)} is {now.status}: {now.detail or 'its run failed; see the log'}")
    out.print(f"{short(now.revision)} is {now.status}: {now.detail}")


@app.command(hidden=True)
def execute(request: str, only: Annotated[list[str] | None, typer.Option()] = None) -> None:
    """Execute an opened request in this process."""
    from llmops_assets.cli.execution import execute as work

    with answers():
        here = CommandContext(request.split(":")[0])
        found = here.ledger.request(request)
        if found is None:
            raise ConfigError([f"no such request in the ledger: {request}"])
        if not work(here.clients, here.source, found, only, out.print):
            raise CommandRefused(f"{request} did not succeed")


@app.command()
def retry(project: OptionalProject = None, wait: Annotated[bool, typer.Option("--wait")] = False) -> None:
    """Run the newest request again, after you have fixed the cause of its failure."""
    with answers():
        here = CommandContext(project)
        requests = here.ledger.requests(here.project.name)
        if not requests:
            raise CommandRefused(f"{here.project.name} has no request yet")
        last = requests[-1]
        if last.active:
            raise CommandRefused(f"{short(last.revision)} is {last.status}; `llmops cancel` stops it")
        if last.status == "waiting":
            raise CommandRefused(f"{short(last.revision)} is {last.detail}")
        found = here.plan(last.revision)
        if found.nothing_to_do:
            out.print(f"{short(last.revision)}: nothing left to do, {found['production_endpoint'].reasons[0]}")
            return
        _start(here, last.revision, found, f"retry of {last.status}", None, wait)


@app.command()
def cancel(project: OptionalProject = None) -> None:
    """Stop the active run; production is unchanged."""
    from llmops_assets.cli.execution import cancel as end

    with answers():
        here = CommandContext(project, fetch=False)
        active = [r for r in here.ledger.requests(here.project.name) if r.active]
        if not active:
            raise CommandRefused(f"{here.project.name} has no active run")
        out.print(end(here.clients, here.project, active[-1]))
