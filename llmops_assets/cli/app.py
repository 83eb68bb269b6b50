"""The `llmops` command: its groups of commands, each a module beside this one.

Output and exit codes only; the work is done elsewhere. Exit codes: 0 done, 1 the answer is no, 2 misuse or a fault.
"""

import typer

from llmops_assets.cli import decisions, projects, runs, services

app = typer.Typer(
    help="Push a commit or new data, and the right model is in production, proven.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for group in (projects, runs, decisions, services):
    app.add_typer(group.app)
