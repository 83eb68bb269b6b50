"""Commands that show what happened: status, releases."""

from contextlib import suppress
from typing import Annotated, Any

import typer

from llmops_assets.cli.context import (
    AsJson,
    CommandContext,
    CommandRefused,
    OptionalProject,
    answers,
    emit,
    own_settings,
)
from llmops_assets.cli.tables import STYLES, say, show
from llmops_assets.config.settings import Settings
from llmops_assets.delivery.dora import WINDOW_DAYS, dora_of
from llmops_assets.delivery.rollback_floor import target_below_floor
from llmops_assets.domain.desired_serving import ENVIRONMENTS
from llmops_assets.domain.dora import Dora
from llmops_assets.domain.formatting import at_time, iso
from llmops_assets.domain.history import ReleaseLine, release_history
from llmops_assets.domain.keys import short
from resources.artifact_store.store import StoreError
from resources.project_source.errors import SourceError
from resources.project_source.identity import local_identity

app = typer.Typer()


@app.command()
def status(
    project: OptionalProject = None,
    last: Annotated[int, typer.Option(min=1, help="Number of requests to show.")] = 8,
    dora: Annotated[
        bool,
        typer.Option("--dora", help="Show DORA's measures: lead time, deployments, failures, recovery."),
    ] = False,
    days: Annotated[int, typer.Option(min=1, max=3650, help="The window of --dora.")] = WINDOW_DAYS,
    as_json: AsJson = False,
) -> None:
    """Show what each environment serves, and the newest requests: whose commit, when, and with what outcome."""
    with answers():
        settings = own_settings()
        names = [project] if project else [p.name for p in settings.projects]
        if not names:
            raise CommandRefused(settings.hint or "no project is watched")
        contexts = [CommandContext(name, fetch=False) for name in names]
        measured = [dora_of(c.source, c.ledger, days) for c in contexts] if dora else []
        if dora and not as_json:
            for number, (context, measures) in enumerate(zip(contexts, measured, strict=True)):
                if number:
                    say("")
                _show_dora(context.project.name, measures)
            return
        receiver = _receiver(settings)
        found = [_status(context) | {"webhooks": receiver} for context in contexts]
        if as_json:
            emit([one | {"dora": m.as_json()} for one, m in zip(found, measured, strict=True)] if dora else found)
            return
        for number, one in enumerate(found):
            if number:
                say("")
            _show_status(one, last)
        if receiver is not None and not receiver["running"]:
            say(f"webhooks: the receiver on {receiver['url']} does not run: {receiver['state']}", style="red")
        elif receiver is not None:
            say(f"webhooks: received on {receiver['url']}", style="dim")
        if trouble := next((one["trouble"] for one in found if one["trouble"]), None):
            say(f"trouble: {trouble}", style="red")


def _receiver(settings: Settings) -> dict[str, Any] | None:
    """Where webhooks are received, and whether they are; None without a receiver of this machine."""
    if settings.webhooks is None or settings.profile != "local":
        return None
    from resources.local_services import services

    state = "`llmops up` starts it"
    with suppress(services.SupervisorError):
        if process := services.processes(settings).get(services.RECEIVER):
            state = process.state.lower()
    url = f"http://{settings.webhooks.address}:{settings.webhooks.port}"
    return {"url": url, "running": state == "running", "state": state}


def _show_dora(project: str, found: Dora) -> None:
    say(f"{project}: {at_time(found.start)} to {at_time(found.end)}", style="bold")
    show(found.rows(), indent=2)
    if not found.complete:
        say("the project has no request from before these days, so the window is shorter", 2, "dim")
    if found.out_of_order:
        many = "times were" if found.out_of_order > 1 else "time was"
        say(f"{found.out_of_order} {many} left out: by these clocks the cause came after its effect", 2, "yellow")


def _status(here: CommandContext) -> dict[str, Any]:
    serving: dict[str, Any] = {}
    for environment in ENVIRONMENTS:
        now = here.ledger.serving(here.project.name, environment)
        serving[environment] = (
            {"release": now.release, "revision": now.revision, "since": iso(now.since)} if now else None
        )
    times = here.ledger.request_times(here.project.name)
    requests = [
        {
            **r.model_dump(exclude={"project"}),
            **dict(zip(("created", "updated"), map(iso, times[r.name]), strict=True)),
            **commit_of(here, r.revision),
        }
        for r in here.ledger.requests(here.project.name)
    ]
    holds = [
        {**hold.model_dump(exclude={"project"}), "why": str(hold)} for hold in here.ledger.holds(here.project.name)
    ]
    told = {"project": here.project.name, "requests": requests, "serving": serving, "holds": holds}
    return told | {"trouble": here.ledger.trouble()}


def commit_of(here: CommandContext, revision: str) -> dict[str, str | None]:
    """Subject and author of a commit; None if the mirror does not have it."""
    with suppress(SourceError):
        return {"subject": here.source.git.message(revision), "author": here.source.git.author(revision)}
    return {"subject": None, "author": None}


def _show_status(one: dict[str, Any], last: int) -> None:
    say(one["project"], style="bold")
    rows = []
    for environment, now in one["serving"].items():
        text = (
            f"{short(now['release'])} of {short(now['revision'])} since {at_time(now['since'])}"
            if now
            else "nothing yet"
        )
        rows.append((environment, "serves" if now else "–", text))
    show(rows, indent=2)
    for hold in one["holds"]:
        say(f"held: {hold['why']}", 2, "magenta")
    if not one["requests"]:
        say("no request yet: push a commit, or `llmops run`", 2)
    for r in one["requests"][-last:]:
        say("")
        again = f", generation {r['generation']}" if r["generation"] > 1 else ""
        show([(short(r["revision"]), r["status"], f"{at_time(r['updated'])}{again}")], indent=2)
        if r["subject"]:
            say(f"{r['subject']} ({r['author']})", 4)
        say(f"why: {r['reason']}", 4, "dim")
        if r["stages"]:
            say(f"only: {', '.join(r['stages'])}", 4, "dim")
        if r["detail"]:
            say(r["detail"], 4, STYLES.get(r["status"], ""))


@app.command()
def releases(
    project: OptionalProject = None,
    last: Annotated[int, typer.Option(min=1, help="Number of releases to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the releases, newest first: when they served production, their health, and what a rollback can go to."""
    with answers():
        here = CommandContext(project, fetch=False)
        name, ledger = here.project.name, here.ledger
        lines = release_history(
            ledger.releases(name), ledger.served(name), [h.release for h in ledger.holds(name)],
            ledger.collected_releases(name),
        )[:last]  # fmt: skip
        states = {e.release: e.status for e in here.clients.serving.endpoints(name) if e.environment == "production"}
        found = [_release(here, line, states) for line in lines]
        if as_json:
            emit(found)
            return
        if not found:
            say(f"{name} has no release yet")
        for r in found:
            show([(short(r["release"]), r["state"], r["health"] or "")])
            if r["since"]:
                began, ended = at_time(r["since"]), at_time(r["until"]) if r["until"] else None
                say(f"served production from {began} to {ended}" if ended else f"in production since {began}", 4)
            say(f"commit {short(r['revision'])}" + (f": {r['subject']} ({r['author']})" if r["subject"] else ""), 4)
            for text in r["below_floor"]:
                say(f"refused as a rollback's target by the settings' policy floor: {text}", 4, "yellow")
        if target := next((r for r in found if r["rollback_target"] and r["can_roll_back_to"]), None):
            say(f"`llmops rollback {name} --reason WHY` goes to {short(target['release'])}")
        elif other := next((r for r in found if r["can_roll_back_to"]), None):
            say(f"`llmops rollback {name} --to {short(other['release'])} --reason WHY` goes to that one")
        elif found:
            say("there is no release to roll back to")


def _release(here: CommandContext, line: ReleaseLine, states: dict[str, Any]) -> dict[str, Any]:
    health = states.get(line.release)
    report = here.ledger.records_of(here.project.name, line.revision).get("endpoint_health")
    if health is None and report is not None and getattr(report, "release", None) == line.release:
        failed = [check.name for check in getattr(report, "checks", ()) if not check.passed]
        health = f"failed: {', '.join(failed)}" if failed else "was healthy"
    below = _below_floor(here, line) if line.can_roll_back_to else []
    return {
        "release": line.release,
        "revision": line.revision,
        **commit_of(here, line.revision),
        "state": line.state,
        "since": iso(line.since) if line.since else None,
        "until": iso(line.until) if line.until else None,
        "health": health,
        "can_roll_back_to": line.can_roll_back_to and not below,
        "below_floor": below,
        "rollback_target": line.is_target,
    }


def _below_floor(here: CommandContext, line: ReleaseLine) -> list[str]:
    """What `llmops rollback` would say against this release, asked by the same person."""
    me = local_identity() or "an unnamed user"
    try:
        return target_below_floor(here.clients, here.project, line.release, line.revision, me, lambda _: None)
    except StoreError as error:
        return [f"its reports cannot be read: {error}"]
