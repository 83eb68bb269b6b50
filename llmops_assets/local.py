"""The local profile's own processes: Dagster's webserver and daemon, and MLflow's server. Detached; ended by `down`.

Endpoints are not here: they belong to `resources.serving` and outlive these.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import psutil

from llmops_assets.project import ConfigError
from llmops_assets.settings import Settings

SERVICES = ("dagster", "mlflow")


def dagster_home(settings: Settings) -> Path:
    """DAGSTER_HOME, or a folder under home; made and configured once, then left to its owner."""
    folder = Path(os.environ.get("DAGSTER_HOME") or settings.home / "dagster").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        (folder / "dagster.yaml").write_text(files("resources").joinpath("dagster.yaml").read_text())
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def start(settings: Settings, dagster_port: int, mlflow_port: int | None, say: Callable[[str], None]) -> None:
    """Starts what does not run yet and waits until it answers.

    Raises:
        ConfigError: a port is taken, or a service does not come up; names its log.
    """
    folder = settings.home / "services"
    folder.mkdir(parents=True, exist_ok=True)
    env = {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home(settings)),
        "LLMOPS_HOME": str(settings.home),
        "LLMOPS_SETTINGS": os.environ.get("LLMOPS_SETTINGS") or str(settings.home / "settings.yaml"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    wanted: dict[str, tuple[list[str], int, str]] = {
        "dagster": (
            [
                sys.executable,
                "-m",
                "dagster",
                "dev",
                "-m",
                "llmops_assets.definitions",
                "-h",
                "127.0.0.1",
                "-p",
                str(dagster_port),
            ],
            dagster_port,
            "/server_info",
        ),
    }
    if mlflow_port is not None:
        wanted["mlflow"] = (
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--backend-store-uri",
                settings.mlflow_uri,
                "--host",
                "127.0.0.1",
                "--port",
                str(mlflow_port),
                "--workers",
                "1",
            ],
            mlflow_port,
            "/health",
        )
    for name, (command, port, _) in wanted.items():
        if process_of(settings, name) is not None:
            continue
        if not port_is_free(port):
            raise ConfigError([f"port {port} is taken, so {name} cannot listen there; free it or choose another port"])
        with (folder / f"{name}.log").open("ab") as log:
            # A shell that starts this in the background ignores SIGINT for it; dagster dev stops on nothing else.
            process = subprocess.Popen(
                ["env", "--default-signal=INT,TERM", *command]
                if shutil.which("env") and sys.platform == "linux"
                else command,
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (folder / f"{name}.url").write_text(f"http://127.0.0.1:{port}")
        (folder / f"{name}.pid").write_text(f"{process.pid} {psutil.Process(process.pid).create_time()}")
        say(f"{name} starts on http://127.0.0.1:{port}")
    for name, (_, port, path) in wanted.items():
        _await(settings, name, f"http://127.0.0.1:{port}{path}")


def _await(settings: Settings, name: str, url: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            if process_of(settings, name) is None:
                break
            time.sleep(0.3)
    log = settings.home / "services" / f"{name}.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""
    raise ConfigError([f"{name} does not answer on {url}; its log is {log}\n{tail}"])


def process_of(settings: Settings, name: str) -> psutil.Process | None:
    """The service's process, if it lives."""
    try:
        pid, created = (settings.home / "services" / f"{name}.pid").read_text().split()
        process = psutil.Process(int(pid))
        return process if abs(process.create_time() - float(created)) < 1.0 and process.is_running() else None
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None


def stop(settings: Settings) -> list[str]:
    """Ends the services and everything that they started; their names."""
    ended = []
    for name in SERVICES:
        process = process_of(settings, name)
        if process is not None:
            family = [process, *process.children(recursive=True)]
            process.send_signal(signal.SIGINT if name == "dagster" else signal.SIGTERM)
            _, alive = psutil.wait_procs(family, timeout=15)
            for left in alive:
                left.kill()
            psutil.wait_procs(alive, timeout=5)
            ended.append(name)
        (settings.home / "services" / f"{name}.pid").unlink(missing_ok=True)
    return ended


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
