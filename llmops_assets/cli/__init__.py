"""The `llmops` command: parsing and printing only. The logic belongs in `llmops_assets.delivery`."""
