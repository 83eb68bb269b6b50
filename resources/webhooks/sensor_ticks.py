"""Evaluates the sensors of a project now, as Dagster's daemon does at a poll.

It is the daemon's own code, in this process: the code server runs the sensor, which fetches and decides, and the tick's
history, cursor, asset events, run keys and run are written as for every other tick. So there is one way of deciding.
A tick that the daemon begins at the same time does no harm: the ledger's row is the lock.

Importing Dagster takes seconds, so the receiver imports this module beside its first requests.
"""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

from dagster import DagsterInstance
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_representation.external import RemoteSensor
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, SensorInstigatorData, TickStatus
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._daemon.sensor import _process_tick

from llmops_assets.domain.webhooks import LOOK, PROPOSALS, PROPOSES_TAG, WAITS, WATCHES_TAG
from resources.webhooks.wakes import Looked

TICK_S = 60.0
"""Dagster ends a tick after this time."""
LOOK_EVERY_S = 0.05


class SensorTicks:
    """The sensors of all projects, which their `WATCHES_TAG` names.

    Args:
        workspaces: workspace.yaml, as for the daemon. Use it as a context manager.
    """

    def __init__(self, instance: DagsterInstance, workspaces: Sequence[str], log: logging.Logger):
        self._instance, self._workspaces, self._log = instance, workspaces, log
        self._stack, self._lock = ExitStack(), threading.Lock()

    def __enter__(self) -> "SensorTicks":
        target = WorkspaceFileTarget(paths=list(self._workspaces))
        self._workspace = self._stack.enter_context(WorkspaceProcessContext(self._instance, target))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def look(self, project: str) -> Looked:
        """Ticks the project's sensors one after another, until one of them starts a run.

        Args:
            project: its name; after `proposals:`, the sensor that proposes commits ticks instead.
        """
        sensors = self._sensors(project)
        if not sensors:
            return Looked("its code location is not loaded yet", waits=True)
        said, waits = [], False
        for number, sensor in enumerate(sensors):
            tick = self._tick(sensor, ask_remote=number == 0)  # the others share its look
            if tick is None:
                return Looked(f"{sensor.name} has not begun, is stopped, or is ticking already")
            told, waiting = _told(tick)
            said.append(f"{sensor.name}: {told}")
            waits = waits or waiting
            if tick.run_ids:
                break
        return Looked("; ".join(said), waits)

    def _sensors(self, project: str) -> list[RemoteSensor]:
        found = self._watching(project)
        if not found:  # the code server may have started after this process
            with self._lock:
                self._workspace.refresh_workspace()
            found = self._watching(project)
        return found

    def _watching(self, project: str) -> list[RemoteSensor]:
        entries = self._workspace.create_request_context().get_code_location_entries().values()
        locations = [entry.code_location for entry in entries if entry.code_location]
        repositories = [repo for location in locations for repo in location.get_repositories().values()]
        tag = PROPOSES_TAG if project.startswith(PROPOSALS) else WATCHES_TAG
        name = project.removeprefix(PROPOSALS)
        found = [s for repo in repositories for s in repo.get_sensors() if s.tags.get(tag) == name]
        return sorted(found, key=lambda sensor: sensor.name, reverse=True)  # git, dvc, branches

    def _tick(self, sensor: RemoteSensor, ask_remote: bool) -> InstigatorTick | None:
        """The sensor's tick; None if the daemon has not begun with it, or a person has stopped it."""
        state = self._await_the_daemon(sensor)
        if state is None or not sensor.get_current_instigator_state(state).is_running:
            return None
        data = state.instigator_data
        assert isinstance(data, SensorInstigatorData)
        due = data._replace(last_tick_timestamp=None, last_tick_start_timestamp=None)  # whatever its interval is
        state = state.with_data(due._replace(cursor=LOOK) if ask_remote else due)
        self._instance.update_instigator_state(state)
        before = self._newest(sensor)
        retention = self._instance.get_tick_retention_settings(InstigatorType.SENSOR)
        _process_tick(self._workspace, self._log, sensor, state, None, retention, None)
        made = self._ticks(sensor, after=int(before.tick_id) if before else 0)
        return made[-1] if made else None

    def _await_the_daemon(self, sensor: RemoteSensor) -> InstigatorState | None:
        """The sensor's state, once no tick of it is under way: that one may have fetched before the push."""
        until = time.monotonic() + TICK_S
        while True:
            state = self._instance.get_instigator_state(sensor.get_remote_origin_id(), sensor.selector_id)
            tick = self._newest(sensor) if state else None
            under_way = tick and tick.status == TickStatus.STARTED and time.time() - tick.timestamp < TICK_S
            if not under_way or time.monotonic() >= until:
                return state
            time.sleep(LOOK_EVERY_S)

    def _newest(self, sensor: RemoteSensor) -> InstigatorTick | None:
        return next(iter(self._ticks(sensor)), None)

    def _ticks(self, sensor: RemoteSensor, after: int = 0) -> list[InstigatorTick]:
        """Newest first; the first one after `after` is this process's, though the daemon may have begun another."""
        ticks = self._instance.get_ticks(sensor.get_remote_origin_id(), sensor.selector_id, limit=3)
        return [tick for tick in ticks if int(tick.tick_id) > after]


def _told(tick: InstigatorTick) -> tuple[str, bool]:
    """What a tick did, and whether a later one has to follow."""
    if tick.run_ids:
        return f"started run {', '.join(tick.run_ids)}", tick.cursor == WAITS
    if tick.status == TickStatus.FAILURE:
        return f"failed: {tick.error.message.strip() if tick.error else ''}", True
    return tick.skip_reason or tick.status.value.lower(), tick.cursor == WAITS
