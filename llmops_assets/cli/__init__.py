"""The `llmops` command. What it does beyond parsing and printing belongs in `llmops_assets.delivery`."""
