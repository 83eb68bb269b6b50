"""Commands for the API keys of the endpoints' clients: `llmops keys add | list | revoke`."""

from typing import Annotated

import typer
from rich.table import Table

from llmops_assets.cli.context import AsJson, CommandRefused, answers, emit, err, out, own_settings
from llmops_assets.config.settings import Settings
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.formatting import iso
from resources.ledger import Ledger
from resources.project_source.identity import local_identity
from resources.serving.local.serving import LocalServing

app = typer.Typer(
    name="keys",
    help="API keys of the endpoints' clients; `serving.require_api_key` in the settings makes them necessary.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Client = Annotated[str, typer.Argument(help="Who uses the key: a person or a program.")]


def _open() -> tuple[Settings, Ledger, LocalServing]:
    from resources.assembly import build_clients

    settings = own_settings()
    clients = build_clients(settings)
    if not isinstance(clients.serving, LocalServing):
        raise ConfigError([f"profile {settings.profile} has no endpoints, so there are no keys"])
    return settings, clients.ledger, clients.serving


@app.command()
def add(
    client: Client,
    project: Annotated[str | None, typer.Option(help="Only for this project's endpoints; default: for all.")] = None,
) -> None:
    """Issue a key, and print it: only its hash is stored. A client may have several, to change from one to the next."""
    with answers():
        settings, ledger, serving = _open()
        if project is not None:
            settings.project(project)
        key, text = serving.add_api_key(client, project)
        ledger.note(
            {"event": "API key added", "client": client, "key": key.id, "project": project, "by": local_identity()}
        )
        err.print(f"key {key.id} of {client}, for {project or 'all projects'}; it is shown only now:", markup=False)
        print(text)
        if not settings.serving.require_api_key:
            err.print("endpoints still answer without a key: set `serving: {require_api_key: true}` in the settings")


@app.command(name="list")
def list_keys(as_json: AsJson = False) -> None:
    """Show all keys: whose, for what, since when; never the keys themselves."""
    with answers():
        settings, _, serving = _open()
        keys = serving.api_keys()
        if as_json:
            emit([{"id": k.id, **k.model_dump(exclude={"sha256"})} for k in keys])
            return
        if not keys:
            out.print("no keys; `llmops keys add CLIENT` issues one")
            return
        table = Table("id", "client", "project", "created")
        for key in keys:
            table.add_row(key.id, key.client, key.project or "all", iso(key.created))
        out.print(table)
        if not settings.serving.require_api_key:
            out.print("endpoints also answer without a key: `serving.require_api_key` is not set", soft_wrap=True)


@app.command()
def revoke(
    client: Client,
    id: Annotated[str | None, typer.Option(help="Only the key whose id begins so; default: all of the client.")] = None,
) -> None:
    """Revoke a client's keys at once."""
    with answers():
        _, ledger, serving = _open()
        gone = serving.revoke_api_keys(client, id)
        if not gone:
            raise CommandRefused(f"no such key of {client}; `llmops keys list` shows all")
        for key in gone:
            ledger.note({"event": "API key revoked", "client": client, "key": key.id, "by": local_identity()})
            out.print(f"revoked: key {key.id} of {client}", markup=False)
