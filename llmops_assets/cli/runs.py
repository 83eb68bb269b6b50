"""Commands about runs: run, evaluate, retry, cancel."""

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated

import typer

from llmops_assets.cli.context import (
    CommandContext,
    CommandRefused,
    OptionalProject,
    Revision,
    answers,
    out,
)
from llmops_assets.cli.plan import show_plan
from llmops_assets.cli.tables import say
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.judges import missing_keys
from llmops_assets.delivery.planning import planned_revision
from llmops_assets.delivery.references import registered
from llmops_assets.domain.chain import CHAIN, STAGES, downstream_of
from llmops_assets.domain.keys import short
from llmops_assets.domain.plan import Plan
from llmops_assets.domain.requests import MODEL_STAGE, Request
from resources.ledger import Conflict
from resources.project_source.errors import SourceError
from resources.serving.interface import ServingError

app = typer.Typer()
_BEFORE_EVALUATION = ("ci_report", "container_image", "dataset_version", "fine_tuned_checkpoint")
"""What a revision needs before another model is evaluated on its rows: its own report stands beside it."""


@app.command()
def run(
    project: OptionalProject = None,
    revision: Revision = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only this stage; repeatable.")] = None,
    rebuild: Annotated[str | None, typer.Option(help="Recompute this stage even if a result exists.")] = None,
    below: Annotated[
        bool, typer.Option("--below", help="With --rebuild: recompute every stage below it too, even if it is equal.")
    ] = False,
    redeploy: Annotated[
        bool, typer.Option("--redeploy", help="Stage, test and roll out the existing release again; computes nothing.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Reason for --rebuild or --redeploy; kept in the ledger.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run has ended, and show its progress.")] = False,
    remote: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With --wait: run it at the Dagster of this URL; for CI systems."),
    ] = None,
) -> None:
    """Run the chain at a revision. Works with or without a daemon; nothing runs twice."""
    with answers():
        if remote is not None:
            from llmops_assets.cli.remote import run_remotely

            run_remotely(remote, project, revision, wait, bool(only or rebuild or below or redeploy or reason))
            return
        _check_options(only, rebuild, below, redeploy, reason)
        here = CommandContext(project)
        sha = here.revision(revision)
        _require_data(here, sha)
        if redeploy:
            _redeploy(here, sha, f"redeployed: {reason}", wait)
            return
        why = "requested by a person"
        if rebuild:
            why = _rebuild(here, sha, rebuild, below, reason or "")
        found = here.plan(sha)
        if found.nothing_to_do and not only:
            out.print(f"{short(sha)}: nothing to do, {found['production_endpoint'].reasons[0]}")
            return
        _start(here, sha, found, why, _in_order(only or ()), wait)


def _check_options(
    only: list[str] | None, rebuild: str | None, below: bool, redeploy: bool, reason: str | None
) -> None:
    for stage in [*(only or ()), *([rebuild] if rebuild else ())]:
        if stage not in STAGES:
            raise ConfigError([f"no such stage: {stage!r} (known: {', '.join(STAGES)})"])
    if rebuild and STAGES[rebuild].kind == "event":
        raise ConfigError([f"{rebuild} keeps no result that could be rebuilt; `llmops run --redeploy` repeats it"])
    if below and not rebuild:
        raise ConfigError(["--below goes with --rebuild STAGE"])
    if redeploy and (only or rebuild):
        raise ConfigError(["--redeploy repeats the stages of a release: leave out --only and --rebuild"])
    if (rebuild or redeploy) and not (reason or "").strip():
        raise ConfigError([f"{'--rebuild' if rebuild else '--redeploy'} needs --reason, which is kept in the ledger"])


def _require_data(here: CommandContext, sha: str) -> None:
    if missing := here.source.missing_data(here.source.at(sha)):
        raise CommandRefused(
            f"{short(sha)} waits for data: {', '.join(missing)} is not in the DVC remote; run `dvc push`"
        )


def _in_order(stages: Iterable[str]) -> list[str]:
    return [stage.name for stage in CHAIN if stage.name in set(stages)]


def _rebuild(here: CommandContext, sha: str, stage: str, below: bool, reason: str) -> str:
    """Salts the keys of what is computed again; returns why the run exists.

    A stage below may get equal inputs again, and then it has its old key: so its present key is salted too. If its
    inputs turn out different, its key is a new one anyway.
    """
    values = here.source.at(sha).values
    outputs = here.ledger.resolve(values).outputs
    names = [name for name in downstream_of(stage) if STAGES[name].kind == "work"] if below else [stage]
    keys = []
    for name in names:
        try:
            keys.append(STAGES[name].key(values, outputs))
        except KeyError as error:
            if name == stage:
                raise CommandRefused(
                    f"{stage} cannot be rebuilt yet: its inputs do not exist at {short(sha)}"
                ) from error
    for key in keys:
        here.ledger.rebuild(key, reason)
    return f"rebuild of {stage}{' and everything below' if below else ''}: {reason}"


def _redeploy(here: CommandContext, sha: str, why: str, wait: bool) -> None:
    found = here.plan(sha)
    if lacking := [s.stage for s in found.stages if STAGES[s.stage].kind == "work" and s.action != "reuse"]:
        raise CommandRefused(
            f"{short(sha)} has no complete release to deploy again: {', '.join(lacking)} would run first; `llmops run`"
        )
    if found.evaluates_only:
        raise CommandRefused(found.evaluates_only)
    _start(here, sha, found, why, list(downstream_of("staging_endpoint")), wait)


@app.command()
def evaluate(
    project: OptionalProject = None,
    model: Annotated[
        str, typer.Option(help="A registered model: its version, its release, or the commit that made it.")
    ] = "",
    revision: Revision = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run has ended, and show its progress.")] = False,
) -> None:
    """Evaluate a registered model on another revision's test rows and metrics; nothing is registered or deployed."""
    with answers():
        if not model.strip():
            raise ConfigError(["--model is missing: a version in the registry, a release or a commit"])
        here = CommandContext(project)
        sha = here.revision(revision)
        _require_data(here, sha)
        candidate = planned_revision(here.source, here.ledger, here.clients.store, sha)
        named = registered(candidate, model.strip())
        if named is None or named.checkpoint is None:
            raise ConfigError([f"there is no model {model!r}; `llmops releases` and MLflow's registry show them"])
        found = here.plan(sha)
        stages = [name for name in _BEFORE_EVALUATION if found[name].action != "reuse"]
        if "fine_tuned_checkpoint" in stages and not _is_trained(here, sha, [named.revision, found.base]):
            train = f"llmops run {here.project.name} --revision {short(sha)} --only fine_tuned_checkpoint"
            raise CommandRefused(
                f"{short(sha)} would be trained first: its own checkpoint, whose report stands beside the model's,"
                f" does not exist. `{train}` trains it"
            )
        why = f"evaluates model {model.strip()} of {short(named.revision)} on the rows of {short(sha)}"
        _start(here, sha, found, why, [*stages, MODEL_STAGE], wait, model.strip())


def _is_trained(here: CommandContext, sha: str, others: Iterable[str | None]) -> bool:
    """Whether one of the other revisions trained with the same rows and configuration."""

    def of(revision: str) -> tuple[object, ...]:
        values = here.source.at(revision, served=revision != sha).values
        rows = {k: v for k, v in values["data"].items() if k not in ("test", "must_pass")}
        return rows, values["training"], values["training.prompt"], values["model.base"]

    wanted = of(sha)
    for other in filter(None, others):
        with suppress(ConfigError, SourceError):
            if of(other) == wanted:
                return True
    return False


def _start(
    here: CommandContext, sha: str, found: Plan, reason: str, only: list[str], wait: bool, model: str = ""
) -> None:
    from llmops_assets.cli.execution import execute, open_by_person, start_detached

    computed = [s.stage for s in found.stages if s.computes and (not only or s.stage in only)]
    if here.settings.profile == "local" and (keys := missing_keys(here.settings, here.source.at(sha).config, computed)):
        raise CommandRefused(f"not started: {'; '.join(keys)}")
    if "staging_endpoint" in (only or found.to_materialize) and (problem := here.clients.serving.port_problem()):
        raise ServingError(f"not started, because the release could not be served: {problem}")
    try:
        request = open_by_person(here.source, here.ledger, sha, found, reason, only, model)
    except Conflict as error:
        active = [r for r in here.ledger.requests(here.project.name) if r.active]
        if wait and active and active[-1].revision == sha:
            _await(here, active[-1])
            return
        raise CommandRefused(
            f"not started: {error}. `llmops status` shows the active run; `llmops cancel` stops it"
        ) from error
    if only:
        say(f"{short(sha)}: {reason}; runs only {', '.join(only)}")
    else:
        show_plan(here, found)
    if request.stages and request.ends_early:
        say("it ends before production, which does not change")
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
        if found.nothing_to_do and not last.stages:
            out.print(f"{short(last.revision)}: nothing left to do, {found['production_endpoint'].reasons[0]}")
            return
        _start(here, last.revision, found, f"retry of {last.status}", [*last.stages], wait, last.model)


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
