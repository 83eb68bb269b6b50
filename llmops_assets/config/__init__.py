"""Schemas of llmops.yaml and the settings. Reading them from Git belongs in `resources.project_source`."""
