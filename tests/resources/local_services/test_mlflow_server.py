"""MLflow's server as `llmops up` starts it: its log, and its end."""

import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

from resources.local_services.services import MLFLOW
from tests.support.ports import free_port
from tests.support.projects import furnish
from tests.support.waiting import CEILING_S, wait_for

OWN = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def test_an_address_that_mlflow_does_not_support_is_in_its_log_without_the_password() -> None:
    """`postgres://` is what many hosts name their databases; MLflow wants `postgresql://`, and its log, which the
    failed start showed too, repeated the whole address."""
    address = "postgres://llmops:mlfl0w-p%40ss@127.0.0.1:1/runs"
    done = subprocess.run(
        [sys.executable, "-m", MLFLOW, "--workers", "1", "-h", "127.0.0.1", "-p", str(free_port())],
        env={**os.environ, **OWN, "MLFLOW_BACKEND_STORE_URI": address},
        capture_output=True, text=True, timeout=CEILING_S,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "@127.0.0.1:1/runs" in said and "Supported URI schemes" in said, said
    assert "mlfl0w" not in said


def test_the_server_answers_and_ends_as_a_whole_when_it_is_told_to(tmp_path: Path, cache: Path) -> None:
    port = free_port()
    furnish(tmp_path, cache, forks=False)
    process = subprocess.Popen(
        [sys.executable, "-m", MLFLOW, "--workers", "1", "-h", "127.0.0.1", "-p", str(port)],
        env={**os.environ, **OWN, "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlflow.sqlite"},
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip

    def answers() -> bool:
        assert process.poll() is None, process.stdout and process.stdout.read()
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=CEILING_S) as answer:
            return bool(answer.status == 200)
        return False

    try:
        wait_for("MLflow", answers)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2, "the command and its web server"
        os.killpg(process.pid, signal.SIGTERM)  # as the supervisor does
        said, _ = process.communicate(timeout=CEILING_S)
        assert psutil.wait_procs(family, timeout=CEILING_S)[1] == [] and "Uvicorn running" in said
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
