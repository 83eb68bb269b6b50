"""The `llmops` command, assembled from the command groups in this package.

Exit codes: 0 success, 1 a negative outcome, 2 bad usage or an error.
"""

from importlib.metadata import version
from typing import Annotated

import typer

from llmops_assets.machine.imports import importing

with importing():
    from llmops_assets.cli import (
        audit,
        ci,
        code_host,
        decisions,
        keys,
        must_pass,
        notify,
        plan,
        projects,
        review,
        runs,
        services,
        status,
        storage,
        trace,
    )

app = typer.Typer(
    help="Push a commit or new data, and a verified model reaches production.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
GROUPS = (
    projects, ci, plan, runs, status, trace, review, decisions, audit, notify, code_host, services, storage, must_pass,
)  # fmt: skip
"""In the order of `llmops --help`."""
for group in GROUPS:
    app.add_typer(group.app)
app.add_typer(keys.app, name="keys")


def _version(asked: bool) -> None:
    if asked:
        print(f"llmops {version('llmops-assets')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Push a commit or new data, and a verified model reaches production."""
