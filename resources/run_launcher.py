"""The run launcher's former import path: dagster.yaml of existing homes uses it, and that file belongs to its owner."""

from resources.run_launching.process_launcher import ProcessRunLauncher

__all__ = ["ProcessRunLauncher"]
