"""The code location that Dagster loads: `defs`.

Loading only reads the settings file: it imports no torch and no MLflow, and opens no socket.
"""

from llmops_assets.machine.imports import importing

with importing():
    from llmops_assets.location import build_definitions
    from llmops_assets.machine.redaction import hide_secrets

    hide_secrets()
    defs = build_definitions()
