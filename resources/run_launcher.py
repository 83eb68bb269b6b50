"""Launches each run as a process of its own that outlives daemon and code server, and knows whether it still lives.

Dagster's default launcher asks the code server; when both die the run stays STARTED for ever and blocks its project.
Here pid and start time stand in the run's tags, so that any daemon, also a later one, can tell.

A fresh interpreter would spend more than a second on importing Dagster before each run. Workers are forked from
Python's own fork server, which has imported it once. The location itself is always imported anew.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import psutil
from dagster import DagsterRun
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from resources.processes import birth, is_alive

# Dagster hides tags that begin so: they are for machines, and the list of runs shows five at most.
PID_TAG = ".dagster/llmops_worker_pid"
STARTED_TAG = ".dagster/llmops_worker_started"
"""When, by the wall clock: for people. A process is known by its birth."""
BIRTH_TAG = ".dagster/llmops_worker_birth"
_PRELOADED = ["dagster._cli", "dagster._cli.api", "dagster._core.execution.api", "sqlalchemy.orm", "alembic.command"]


def worker_tags(process: psutil.Process) -> dict[str, str]:
    """Tags by which a worker is known again; a pid alone may be somebody else's by then."""
    return {
        PID_TAG: str(process.pid), STARTED_TAG: f"{process.create_time():.2f}", BIRTH_TAG: birth(process.pid),
    }  # fmt: skip


def worker_of(run: DagsterRun) -> psutil.Process | None:
    """The run's worker, if it lives."""
    if PID_TAG not in run.tags or BIRTH_TAG not in run.tags:
        return None
    try:
        process = psutil.Process(int(run.tags[PID_TAG]))
        same = birth(process.pid) == run.tags[BIRTH_TAG]
        return process if same and is_alive(process) else None
    except (psutil.NoSuchProcess, OSError, ValueError):
        return None


def start_detached(module: str, arguments: Sequence[str], log: Path) -> int:
    """Starts `python -m module …` as it would run from here, in a session of its own and nobody's child; its pid.

    Raises:
        RuntimeError: it could not be started; the log may say why.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    told, tell = context.Pipe(duplex=False)
    target = (module, list(arguments), str(log), dict(os.environ), str(Path.cwd()), tell)
    between = context.Process(target=_detach, args=target, name=f"start {module}")
    between.start()
    tell.close()
    try:
        return int(told.recv())
    except EOFError:
        raise RuntimeError(f"python -m {module} could not be started; {log} may say why") from None
    finally:
        told.close()
        between.join()


def _detach(
    module: str, arguments: list[str], log: str, environment: dict[str, str], folder: str, tell: Connection
) -> None:
    pid = os.fork()
    if pid:
        tell.send(pid)
        return  # this process ends here, so that its child is nobody's: no zombie, and it outlives the fork server
    tell.close()
    code: int | str | None = 1
    try:
        os.setsid()
        for target, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY | os.O_CREAT | os.O_APPEND)):
            source = os.open(log if target else os.devnull, flags, 0o644)
            os.dup2(source, target)
            os.close(source)
        os.dup2(1, 2)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


class ProcessRunLauncher(RunLauncher, ConfigurableClass):
    """`run_launcher: {module: resources.run_launcher, class: ProcessRunLauncher}` in dagster.yaml."""

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
            raise ValueError(f"run {run.run_id} does not say where its code is, so no process can execute it")
        args = ExecuteRunArgs(
            job_origin=origin, run_id=run.run_id, instance_ref=self._instance.get_ref(), set_exit_code_on_failure=True
        )
        command = args.get_command_args()
        arguments = command[command.index("dagster") + 1 :]
        folder = Path(self._instance.root_directory) / "run-logs"
        folder.mkdir(exist_ok=True)
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
            return CheckRunHealthResult(WorkerStatus.UNKNOWN, "no worker is noted for this run")
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its worker, process {run.tags[PID_TAG]}, is gone")
