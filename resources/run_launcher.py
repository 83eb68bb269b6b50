"""The run launcher's earlier address: dagster.yaml of existing homes names it, and such a file belongs to its owner."""

from resources.run_launching.process_launcher import ProcessRunLauncher

__all__ = ["ProcessRunLauncher"]
