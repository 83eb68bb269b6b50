"""A run's worker process: outlives the process that started it, and can be identified by any other process.

A fresh interpreter would spend 4 CPU seconds importing Dagster, MLflow and this project for each run. Workers are
forked from Python's own fork server, which has imported them once (`preloaded`). If that code has changed since, after
an upgrade for example, the worker starts a fresh interpreter in its place.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
from dagster import DagsterRun

from llmops_assets.machine.processes import birth, exit_code_of, is_alive

# Dagster hides tags with this prefix; its list of runs shows at most five tags.
PID_TAG = ".dagster/llmops_worker_pid"
STARTED_TAG = ".dagster/llmops_worker_started"
"""Wall-clock start time, for people. The birth tag identifies the process."""
BIRTH_TAG = ".dagster/llmops_worker_birth"


def worker_tags(process: psutil.Process) -> dict[str, str]:
    """Tags that identify a worker; a pid alone may have been reused."""
    return {
        PID_TAG: str(process.pid), STARTED_TAG: f"{process.create_time():.2f}", BIRTH_TAG: birth(process.pid),
    }  # fmt: skip


def worker_of(run: DagsterRun) -> psutil.Process | None:
    """The run's worker, if it is alive."""
    if PID_TAG not in run.tags or BIRTH_TAG not in run.tags:
        return None
    try:
        process = psutil.Process(int(run.tags[PID_TAG]))
        same = birth(process.pid) == run.tags[BIRTH_TAG]
        return process if same and is_alive(process) else None
    except (psutil.NoSuchProcess, OSError, ValueError):
        return None


def start_detached(module: str, arguments: Sequence[str], log: Path) -> int:
    """Starts `python -m module …` in this environment, orphaned and in its own session; returns its pid.

    Raises:
        RuntimeError: it did not start; see the log.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["resources.run_launching.preloaded"])
    told, tell = context.Pipe(duplex=False)
    target = (module, list(arguments), str(log), dict(os.environ), str(Path.cwd()), tell)
    between = context.Process(target=_detach, args=target, name=f"start {module}")
    between.start()
    tell.close()
    try:
        return int(told.recv())
    except EOFError:
        raise RuntimeError(f"python -m {module} did not start; see {log}") from None
    finally:
        told.close()
        between.join()


def _detach(
    module: str, arguments: list[str], log: str, environment: dict[str, str], folder: str, tell: Connection
) -> None:
    pid = os.fork()
    if pid:
        tell.send(pid)
        return  # this process exits, so that its child is orphaned: no zombie, and it outlives the fork server
    tell.close()

    def main() -> None:
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
        from resources.run_launching.preloaded import changed  # heavy, and there already in a fork

        if changed():
            os.execv(sys.executable, [sys.executable, "-m", *sys.argv])
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    code = 1
    try:
        code = exit_code_of(main)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
