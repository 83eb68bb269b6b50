"""The webhook receiver.

    python -m resources.webhooks -w workspace.yaml        (like `dagster-daemon run`)

`LLMOPS_SETTINGS` and `DAGSTER_HOME` say what it serves. It needs the code server, and neither ledger nor store.
"""

import argparse
import logging
import sys
import threading
import warnings

from llmops_assets.config.settings_file import load_settings
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.machine.redaction import hide_secrets
from resources.webhooks.deliveries import Deliveries
from resources.webhooks.receiver import Receiver
from resources.webhooks.server import server
from resources.webhooks.wakes import Looked, Wakes

DELIVERIES = "webhooks/deliveries.sqlite"
log = logging.getLogger("llmops.webhooks")


class Looking:
    """Dagster, imported and connected in a thread of its own: the first deliveries are answered meanwhile."""

    def __init__(self, workspaces: list[str]):
        self._workspaces, self._ready = workspaces, threading.Event()
        threading.Thread(target=self._start, daemon=True).start()

    def _start(self) -> None:
        warnings.simplefilter("ignore")  # Dagster's, at each attempt to reach a code server that is not up yet
        from dagster import DagsterInstance

        from resources.webhooks.sensor_ticks import SensorTicks

        self._ticks = SensorTicks(
            DagsterInstance.get(), self._workspaces, logging.getLogger("llmops.ticks")
        ).__enter__()
        self._ready.set()

    def __call__(self, project: str) -> Looked:
        if not self._ready.wait(60):
            return Looked("Dagster is not connected yet; see the log", waits=True)
        return self._ticks.look(project)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m resources.webhooks", description=__doc__)
    parser.add_argument("-w", "--workspace", action="append", required=True, help="workspace.yaml of Dagster")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s")
    try:
        settings = load_settings()
        if settings.webhooks is None:
            raise ConfigError(["the settings configure no receiver; add `webhooks: {secrets: [{env: NAME}]}`"])
        wakes = Wakes(Looking(arguments.workspace), settings.look_every)
        receiver = Receiver(settings, Deliveries(settings.home / DELIVERIES), wakes.wake)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    # What arrived while no receiver ran, or was accepted just before it ended.
    wakes.wake(project.name for project in settings.projects)
    log.info("receiving on %s:%d", settings.webhooks.address, settings.webhooks.port)
    server(receiver.app, settings.webhooks).run()
    return 0


if __name__ == "__main__":
    hide_secrets()
    sys.exit(main())
