"""Commands about this machine's services: endpoints, up, down, demo."""

from typing import Annotated

import typer

from llmops_assets.catalog import WEBHOOKS
from llmops_assets.cli.context import AsJson, CommandRefused, OptionalProject, answers, emit, out, own_settings
from llmops_assets.cli.tables import say, show
from llmops_assets.domain.keys import short
from resources.ledger import LedgerError

app = typer.Typer()


@app.command()
def up(
    dagster_port: Annotated[int, typer.Option(help="Port of Dagster's UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI.")] = 5000,
) -> None:
    """Start Dagster's webserver and daemon, MLflow's server unless the settings name one that runs elsewhere, the
    receiver of webhooks if the settings have one, and the endpoints of all releases that serve."""
    from llmops_assets.delivery.reconciliation import Reconciled, Reconciler
    from resources.assembly import build_clients
    from resources.local_services.services import start

    with answers():
        settings = own_settings()
        clients = build_clients(settings)
        faults: list[str] = []
        for project in settings.projects:
            try:
                found = Reconciler.of(clients, project.name, out.print).run(start_stopped=True)
            except LedgerError as error:
                found = Reconciled(faults=(str(error),))
            for done in found.done:
                out.print(f"{project.name}: {done}", markup=False)
            faults += [f"{project.name}: {fault}" for fault in found.faults]
        start(settings, dagster_port, mlflow_port if settings.needs_mlflow_server else None, out.print)
        out.print(f"Dagster: http://127.0.0.1:{dagster_port}   MLflow: {settings.ui('mlflow') or 'runs elsewhere'}")
        if settings.webhooks is not None:
            paths = ", ".join(f"/webhooks/{sender}" for sender in WEBHOOKS)
            out.print(f"Webhooks: http://{settings.webhooks.address}:{settings.webhooks.port} with {paths}")
        if faults:
            raise CommandRefused(f"not all endpoints are up; the daemon keeps trying: {'; '.join(faults)}")
        if problem := clients.serving.port_problem():
            say(f"warning: no release can be served: {problem}", style="yellow")


@app.command()
def down(
    forget: Annotated[
        bool, typer.Option(help="Also delete the engines' configuration; `llmops up` recreates it.")
    ] = False,
) -> None:
    """Stop Dagster, MLflow, the receiver of webhooks, running programs and all endpoints."""
    from resources.assembly import build_clients
    from resources.local_services.services import stop

    with answers():
        settings = own_settings()
        clients = build_clients(settings)
        ended = stop(settings)
        ended += clients.compute.cancel_all()
        clients.serving.down(forget=forget)
        out.print(f"stopped: {', '.join([*ended, 'endpoints'])}")


@app.command()
def endpoints(project: OptionalProject = None, as_json: AsJson = False) -> None:
    """Show the endpoints, their stable URLs and their health."""
    with answers():
        settings = own_settings()
        name = settings.project(project).name if project else None
        from resources.assembly import build_clients

        found = [e.model_dump() for e in build_clients(settings).serving.endpoints(name)]
        if as_json:
            emit(found)
            return
        rows = [(e["project"], e["environment"], e["status"], short(e["release"]), e["base_url"]) for e in found]
        if not rows:
            say("nothing is deployed yet")
            return
        show(rows, ("project", "environment", "status", "release", "URL"))


@app.command()
def demo(
    fresh: Annotated[bool, typer.Option(help="Delete an earlier demo's state first.")] = True,
) -> None:
    """Run the demo: an example project, seven pushes, and the outcome of each."""
    from llmops_assets.demo.play import play

    with answers():
        if not play(fresh):
            raise CommandRefused("the demo failed; the table shows which acts")
