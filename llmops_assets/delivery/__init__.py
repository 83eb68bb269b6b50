"""Use cases that assets, sensors, jobs and the command line share. Decisions belong in `llmops_assets.domain`."""
