"""Stops an active run and the programs that it started."""

import os
import signal
from collections.abc import Iterable, Sequence

import dagster as dg
import psutil
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from llmops_assets.machine.processes import is_alive
from resources.compute.interface import Compute
from resources.run_launching.run_workers import worker_of


def end_runs(
    instance: dg.DagsterInstance,
    runs: Sequence[dg.DagsterRun],
    compute: Compute,
    keys: Iterable[str],
    wait_s: float = 20.0,
) -> list[str]:
    """Stops these runs and all programs that run under these keys; returns the programs' names.

    An interrupted worker stops its program; a worker that was killed earlier left it running, so programs are also
    found by key. Programs of other projects are not touched.
    """
    for run in runs:
        worker = worker_of(run)
        if worker is not None and worker.pid != os.getpid() and not run.is_finished:
            instance.report_run_canceling(run)  # else Dagster treats the interrupt as a failure
            worker.send_signal(signal.SIGINT)
            psutil.wait_procs([worker], timeout=wait_s)
            if is_alive(worker):
                worker.kill()
        elif worker is None and run.status in IN_PROGRESS_RUN_STATUSES:
            instance.run_launcher.terminate(run.run_id)  # it runs on another machine, if at all
        current = instance.get_run_by_id(run.run_id)
        if current is not None and not current.is_finished:
            instance.report_run_canceled(current)
    return compute.cancel_work(keys)
