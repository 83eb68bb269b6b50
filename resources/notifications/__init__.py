"""Clients that send one message to one target: a file for each way (`llmops_assets.catalog.NOTIFIERS`)."""
