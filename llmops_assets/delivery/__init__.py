"""Use cases shared by assets, sensors, jobs and the CLI. Decisions belong in `llmops_assets.domain`."""
