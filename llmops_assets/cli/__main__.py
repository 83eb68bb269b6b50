"""python -m llmops_assets.cli: the `llmops` command without its installed script."""

from llmops_assets.cli.app import app

app()
