"""The local serving's desired state and its files: replicas and weights. Locked, and written atomically.

The state is the only source of truth. The supervisor's configuration, the engines' specs and the gateway's files are
derived from it and rewritten when they differ. Nothing here starts or queries a process.
"""

import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field, ValidationError

from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.machine.files import write_if_changed
from llmops_assets.machine.locks import alone
from llmops_assets.machine.old_files import last_change
from llmops_assets.machine.unix_sockets import NotPrivate, make_socket_folder, socket_folder
from llmops_assets.programs.runtime.specs import ServeSpec
from resources.serving.interface import ServingError
from resources.serving.local.access import Access


class Replica(Frozen):
    """One engine process that serves one release in one environment."""

    project: str
    environment: str
    release: str = Field(description="Digest of the release.")
    spec: ServeSpec
    draining: bool = Field(default=False, description="Being removed: takes no new requests.")

    @property
    def key(self) -> str:
        return endpoint_key(self.project, self.environment)

    @property
    def name(self) -> str:
        """The name of its program, folder and log."""
        return f"{self.project}.{self.environment}.{short(self.release)}"


class State(Frozen):
    replicas: tuple[Replica, ...] = Field(default=(), description="In order of deployment.")
    weights: dict[str, dict[str, float]] = Field(default_factory=dict, description="endpoint -> release -> share > 0.")
    stopped: bool = Field(default=False, description="Stopped on purpose, and not started since.")

    def replica(self, project: str, environment: str, release: str) -> Replica | None:
        wanted = (project, environment, release)
        return next((r for r in self.replicas if (r.project, r.environment, r.release) == wanted), None)

    def weight(self, replica: Replica) -> float:
        return self.weights.get(replica.key, {}).get(replica.release, 0.0)

    def having(self, replica: Replica) -> "State":
        """The state with this replica, replacing one of the same name."""
        if any(r.name == replica.name for r in self.replicas):
            replicas = tuple(replica if r.name == replica.name else r for r in self.replicas)
        else:
            replicas = (*self.replicas, replica)
        return self.model_copy(update={"replicas": replicas})

    def without(self, replica: Replica) -> "State":
        return self.model_copy(update={"replicas": tuple(r for r in self.replicas if r.name != replica.name)})

    def routed(self, key: str, weights: dict[str, float]) -> "State":
        others = {k: w for k, w in self.weights.items() if k != key}
        return self.model_copy(update={"weights": others | ({key: weights} if weights else {})})


def endpoint_key(project: str, environment: str) -> str:
    return f"{project}/{environment}"


class StateFiles:
    """The folder `<home>/serving` and its files."""

    def __init__(self, home: Path) -> None:
        self.folder = home.expanduser().absolute() / "serving"
        self.state = self.folder / "state.json"
        self.replicas = self.folder / "replicas"
        self.logs = self.folder / "logs"
        self.gateway = self.folder / "gateway"
        self.sockets = socket_folder(self.folder)
        self.access = Access(self.folder)

    def create(self) -> None:
        """Creates the folders, accessible to their owner only."""
        for folder in (self.folder, self.replicas, self.logs, self.gateway):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            make_socket_folder(self.folder)
        except NotPrivate as error:
            raise ServingError(str(error)) from error

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def log_tail(self, name: str, lines: int = 20) -> str:
        """The end of a process's log, for a message."""
        path = self.log(name)
        text = path.read_bytes()[-8192:].decode(errors="replace") if path.is_file() else ""
        tail = "\n".join(text.splitlines()[-lines:])
        return f"the end of {path}:\n{tail}" if tail else f"{path} is empty"

    def read(self) -> State:
        """The current state; needs no lock, since the file is replaced atomically.

        Raises:
            ServingError: the file is not a valid state.
        """
        try:
            return State.model_validate_json(self.state.read_bytes())
        except FileNotFoundError:
            return State()
        except ValidationError as error:
            raise ServingError(
                f"{self.state} is not a valid serving state ({error.error_count()} errors, first: "
                f"{error.errors()[0]['msg']}). Remedy: move it away; the next tick, or `llmops up`, recreates it"
            ) from error

    def spec(self, name: str) -> ServeSpec | None:
        """The specification with which an engine was last started; None if there is none that can be read."""
        try:
            return ServeSpec.model_validate_json((self.replicas / name / "spec.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def write(self, state: State, stopped: bool = False) -> None:
        write_if_changed(self.state, state.model_copy(update={"stopped": stopped}).model_dump_json(indent=1))

    def drop_sockets(self) -> None:
        shutil.rmtree(self.sockets, ignore_errors=True)

    def drop_old_logs(self, names: Container[str], keep: int = 20) -> None:
        """Deletes logs of other programs than these, except the newest ones."""
        logs = [path for path in self.logs.glob("*.log*") if path.name.partition(".log")[0] not in names]
        for path in sorted(logs, key=last_change, reverse=True)[keep:]:
            path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the lock that serializes all changes across processes and threads. Reading needs no lock."""
        self.create()
        with alone(self.folder / "lock"):
            yield
