"""Clients of code hosts, which show a commit's answers: a file for each (`llmops_assets.catalog.CODE_HOSTS`)."""
