"""Starts and stops the local services (`llmops up`, `llmops down`): Dagster and MLflow.

They run under a supervisor that restarts them. Endpoints belong to `resources.serving.local`, run under their own
supervisor, and outlive these services.
"""

import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

import yaml

from llmops_assets.config.settings import Settings
from llmops_assets.config.webhooks import WebhookSettings
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.machine.locks import alone
from llmops_assets.machine.ports import free_port, holder
from llmops_assets.machine.private import NotOurs, keep_private
from llmops_assets.machine.supervisor import Process, Program, Supervisor, SupervisorError
from llmops_assets.machine.unix_sockets import NotPrivate, make_socket_folder, socket_folder
from resources.tracking.mlflow_server import MlflowServer

LOCATION = "llmops_assets.definitions"
CODE_SERVER, DAEMON = "resources.local_services.code_server", "resources.local_services.daemon"
WEBSERVER, WEBHOOKS = "resources.local_services.webserver", "resources.webhooks"
MLFLOW = "resources.local_services.mlflow_server"
RECEIVER = "webhooks"
"""Name of the webhook receiver's service."""
STARTS = 3
"""A program that exits this often before its first answer will not come up without help."""


class Service:
    """A program and the address that it answers on."""

    def __init__(
        self,
        name: str,
        *command: str,
        port: int | None = None,
        path: str = "",
        unix: Path | None = None,
        host: str = "127.0.0.1",
    ):
        # Ends leftover processes of a killed instance before each start.
        fresh = (sys.executable, "-m", "llmops_assets.machine.clean_start", sys.executable, "-m", *command)
        self.program, self.name = Program(name=name, command=fresh, stop_wait_s=5), name
        self.port, self.path, self.unix = port, path, unix
        self.choose_port = "llmops up --mlflow-port" if name == "mlflow" else "llmops up --dagster-port"
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def answers(self) -> bool:
        if self.unix is not None:
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(os.fspath(self.unix)) == 0
        if self.port is None:
            return True
        try:
            with urllib.request.urlopen(f"{self.url}{self.path}", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def dagster_home(settings: Settings) -> Path:
    """DAGSTER_HOME, or a folder under home; created and configured once, then owned by the user."""
    folder = Path(os.environ.get("DAGSTER_HOME") or settings.home / "dagster").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        (folder / "dagster.yaml").write_text(files("resources.local_services").joinpath("dagster.yaml").read_text())
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def _make_history(home: Path) -> None:
    """Creates Dagster's databases in one process: three concurrent starts on an empty folder corrupt them."""
    if (home / "schedules" / "schedules.db").exists():
        return
    import dagster as dg

    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.get_runs(limit=1)
        instance.all_instigator_state()
        instance.get_latest_materialization_event(dg.AssetKey("none"))


def _make_tracking(tracking: MlflowServer) -> None:
    """Creates MLflow's database, before its server and a run's worker both try to."""
    if tracking.database is not None and not tracking.database.exists():
        assert tracking.client


def start(settings: Settings, dagster_port: int, mlflow_port: int | None, say: Callable[[str], None]) -> None:
    """Starts the services that are not running and waits until they answer.

    Raises:
        ConfigError: a port is in use, or a service does not come up; the message names its log.
        SupervisorError: the supervisor does not start, or cannot end leftover processes.
    """
    try:
        keep_private(settings.home)
    except NotOurs as error:
        raise ConfigError([str(error)]) from error
    for secret in settings.webhook_secrets:
        secret.read()  # the receiver would end at once, and only its log would say why
    with _locked(settings) as folder:
        try:
            sockets = make_socket_folder(folder)
        except NotPrivate as error:
            raise ConfigError([str(error)]) from error
        services = _services(settings, sockets, dagster_port, mlflow_port)
        supervisor = _supervisor(settings, _environment(settings))
        alive = supervisor.alive()
        if not alive:
            supervisor.end_left_behind()  # leftover processes may hold the ports
            _make_history(dagster_home(settings))
            if mlflow_port is not None:
                _make_tracking(MlflowServer(settings.mlflow_uri))
        running = supervisor.processes()
        for service in services:
            if service.name not in running and service.port is not None and not port_is_free(service.port):
                other = free_port("127.0.0.1", service.port + 1, [s.port for s in services if s.port])
                taken = f"port {service.port} is in use by {holder(service.port)}, so {service.name} cannot start"
                how = f"`{service.choose_port} {other}`"
                raise ConfigError([f"{taken}; end that process, or choose another: {how}"])
        code = next(s.unix for s in services if s.unix is not None)
        place = {"grpc_server": {"socket": str(code), "location_name": LOCATION}}
        (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [place]}))
        if mlflow_port is None:
            (folder / "mlflow.url").unlink(missing_ok=True)  # of a server that it had before
        for service in services:
            if service.port is not None:
                told = folder / f"{service.name.removesuffix('-webserver')}.url"
                told.write_text(service.url)
        programs = [service.program for service in services]
        if alive:
            supervisor.apply(programs)
        else:
            supervisor.start(programs)
    for service in services:
        if service.name not in running and service.port is not None:
            say(f"{service.name} starts on {service.url}")
    for service in services:
        _await(settings, supervisor, service)


def _services(settings: Settings, sockets: Path, dagster_port: int, mlflow_port: int | None) -> list[Service]:
    code, here = sockets / "code.sock", ("-h", "127.0.0.1")
    wanted = [
        Service("dagster-code", CODE_SERVER, "-m", LOCATION, "--socket", str(code), unix=code),
        Service(
            "dagster-webserver", WEBSERVER, "-w", "workspace.yaml", *here, "-p", str(dagster_port),
            port=dagster_port, path="/server_info",
        ),
        Service("dagster-daemon", DAEMON, "run", "-w", "workspace.yaml"),
    ]  # fmt: skip
    if mlflow_port is not None:
        # Its database's address, which may contain a password, is in the environment: `ps` shows arguments to everyone.
        command = (MLFLOW, "--workers", "1", *here, "-p", str(mlflow_port))
        wanted.append(Service("mlflow", *command, port=mlflow_port, path="/health"))
    if settings.webhooks is not None:
        wanted.append(_receiver(settings.webhooks))
    return wanted


def _receiver(webhooks: WebhookSettings) -> Service:
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(webhooks.address, webhooks.address)
    service = Service(RECEIVER, WEBHOOKS, "-w", "workspace.yaml", port=webhooks.port, path="/health", host=reached)
    service.choose_port = "webhooks.port in the settings:"
    return service


def _environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home(settings)),
        "LLMOPS_HOME": str(settings.home),
        "LLMOPS_SETTINGS": os.environ.get("LLMOPS_SETTINGS") or str(settings.home / "settings.yaml"),
        "MLFLOW_BACKEND_STORE_URI": settings.mlflow_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _supervisor(settings: Settings, environment: Mapping[str, str] | None = None) -> Supervisor:
    folder = _folder(settings)
    return Supervisor(folder, socket_folder(folder) / "supervisor.sock", environment)


def _folder(settings: Settings) -> Path:
    return settings.home.expanduser().absolute() / "services"


@contextmanager
def _locked(settings: Settings) -> Iterator[Path]:
    """The services' folder, under a lock that serializes all starts and stops."""
    folder = _folder(settings)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    with alone(folder / "lock"):
        yield folder


def _await(settings: Settings, supervisor: Supervisor, service: Service, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    pids: set[int] = set()
    while time.monotonic() < deadline and len(pids) <= STARTS:
        if service.answers():
            return
        process = supervisor.processes().get(service.name)
        pids |= {process.pid} - {0} if process else set()
        time.sleep(0.2)
    log = _folder(settings) / "logs" / f"{service.name}.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""
    where = service.unix or f"{service.url}{service.path}"
    raise ConfigError([f"{service.name} does not answer on {where}; see its log {log}\n{tail}"])


def stop(settings: Settings) -> list[str]:
    """Stops the services and all processes that they started; returns the services' names."""
    if not _folder(settings).is_dir():
        return []
    with _locked(settings):
        supervisor = _supervisor(settings)
        ended = ["the services"]
        with suppress(SupervisorError):  # it does not answer: it is ended anyway
            ended = sorted(supervisor.processes())
        supervisor.stop(patience_s=2.0)  # they need no clean shutdown: all state survives a power cut
    return ended


def processes(settings: Settings) -> dict[str, Process]:
    """The services' processes, by name; empty if the supervisor is not running.

    Raises:
        SupervisorError: it runs, but does not answer.
    """
    return _supervisor(settings).processes()


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
