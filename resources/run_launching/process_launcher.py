"""Launches each run as a process that outlives daemon and code server, and checks whether it is alive.

Dagster's default launcher asks the code server; if both die, the run stays STARTED forever and blocks its project.
This launcher stores the worker's pid and birth (`run_workers`) in the run's tags, so that any daemon, including a later
one, can check.
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psutil
from dagster import DagsterRun
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from llmops_assets.machine.locks import alone
from resources.run_launching.run_workers import PID_TAG, start_detached, worker_of, worker_tags


class ProcessRunLauncher(RunLauncher, ConfigurableClass):
    """`run_launcher: {module: resources.run_launching.process_launcher, class: ProcessRunLauncher}` in dagster.yaml."""

    def __init__(self, inst_data: ConfigurableClassData | None = None):
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data=inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        origin = context.job_code_origin
        if origin is None:
            raise ValueError(f"run {run.run_id} has no job code origin, so no process can execute it")
        args = ExecuteRunArgs(
            job_origin=origin, run_id=run.run_id, instance_ref=self._instance.get_ref(), set_exit_code_on_failure=True
        )
        command = args.get_command_args()
        arguments = command[command.index("dagster") + 1 :]
        folder = Path(self._instance.root_directory) / "run-logs"
        folder.mkdir(exist_ok=True)
        # Two daemons may take a run from the queue at once. The second worker would end itself, and the monitor, which
        # knew only the newest, would report the run of the first as dead.
        with alone(folder / "launching.lock"):
            known = self._instance.get_run_by_id(run.run_id)
            if known is not None and (worker := worker_of(known)) is not None:
                self._instance.report_engine_event(f"is launched already: its worker is process {worker.pid}", run)
                return
            pid = start_detached("dagster", arguments, folder / f"{run.run_id}.log")
            self._instance.add_run_tags(run.run_id, worker_tags(psutil.Process(pid)))
        self._instance.report_engine_event(f"worker is process {pid}", run)

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        worker = worker_of(run) if run else None
        if run is None or worker is None:
            return False
        self._instance.report_run_canceling(run)
        os.kill(worker.pid, signal.SIGINT)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        if worker_of(run) is not None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if PID_TAG not in run.tags:
            return CheckRunHealthResult(WorkerStatus.UNKNOWN, "no worker is recorded for this run")
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its worker, process {run.tags[PID_TAG]}, has died")
