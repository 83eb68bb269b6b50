"""The `llmops` command, assembled from the command groups in this package.

Exit codes: 0 success, 1 a negative outcome, 2 bad usage or an error.
"""

import typer

from llmops_assets.cli import decisions, projects, runs, services

app = typer.Typer(
    help="Push a commit or new data, and a verified model reaches production.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for group in (projects, runs, decisions, services):
    app.add_typer(group.app)
