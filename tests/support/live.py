"""A home under Dagster's own webserver and daemon, and users of its endpoint: for tests with the real daemon."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from llmops_assets.config.serving import ServingSettings
from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import dump_settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.run_tags import REQUEST_TAG
from llmops_assets.domain.records import Checkpoint
from llmops_assets.domain.requests import Request
from llmops_assets.domain.rollout import RolloutState
from resources.assembly import build_clients
from resources.compute.pipes import forward_progress
from resources.ledger import Ledger
from resources.local_services import services
from resources.run_launching.run_workers import worker_of
from resources.serving.client import Answer, ask
from tests.support.commands import llmops
from tests.support.ports import free_port
from tests.support.projects import Project, World, furnish


class Live:
    """A home under Dagster's own webserver and daemon that watches one project.

    Args:
        repository: what the settings say; None: the project's own remote.
        mlflow_server: whether MLflow's server runs too.
        alone: whether no process of it is shared with other tests.
        settings: overrides of the local profile's defaults.
    """

    def __init__(
        self,
        home: Path,
        project: Project,
        repository: Any = None,
        mlflow_server: bool = False,
        alone: bool = False,
        **settings: Any,
    ):
        self.project = project
        self.settings = Settings(
            home=home,
            projects=(ProjectSource(name=project.name, repository=repository or str(project.remote)),),
            serving=ServingSettings(port=free_port()),
            **settings,
        )
        furnish(home, World.cache, forks=not alone)
        (home / "settings.yaml").write_text(dump_settings(self.settings))
        self.env = {**os.environ, "LLMOPS_HOME": str(home), "LLMOPS_SETTINGS": str(home / "settings.yaml"),
                    "DAGSTER_HOME": str(home / "dagster")}  # fmt: skip
        self.ports = free_port(), free_port()
        self._mlflow_port = self.ports[1] if mlflow_server else None
        self.clients = build_clients(self.settings)
        self.ledger: Ledger = self.clients.ledger

    @contextmanager
    def running(self, **variables: str) -> Iterator["Live"]:
        """Starts the services with these environment variables, and always stops them at the end of the block."""
        with pytest.MonkeyPatch.context() as patch:
            try:
                with pytest.MonkeyPatch.context() as passing:
                    for name, value in variables.items():
                        passing.setenv(name, value)
                    self.start(patch)
                yield self
            finally:
                self.stop()

    def start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("LLMOPS_HOME", "LLMOPS_SETTINGS", "DAGSTER_HOME"):
            monkeypatch.setenv(name, self.env[name])
        services.start(self.settings, self.ports[0], self._mlflow_port, lambda text: None)
        self.instance = dg.DagsterInstance.from_config(self.env["DAGSTER_HOME"])

    def stop(self) -> None:
        services.stop(self.settings)
        self.clients.compute.cancel_all()
        self.clients.serving.down(forget=True)

    def llmops(self, *words: str) -> str:
        """The output of a successful `llmops` command."""
        done = llmops(*words, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def processes(self) -> list[psutil.Process]:
        """Every running process of this home, started by any process."""
        home, found = str(self.settings.home), []
        for process in psutil.process_iter():
            try:
                said = [*process.cmdline(), *process.environ().values()]
                alive = process.status() != psutil.STATUS_ZOMBIE
            except (psutil.Error, OSError):
                continue
            if alive and process.pid != os.getpid() and any(home in text for text in said):
                found.append(process)
        return found

    def worker(self, revision: str) -> psutil.Process | None:
        """The run worker of a revision's newest request."""
        found = self.requests(revision)
        return next((w for run in (self.runs(found[-1]) if found else []) if (w := worker_of(run))), None)

    def requests(self, revision: str) -> list[Request]:
        return [r for r in self.ledger.requests(self.project.name) if r.revision == revision]

    def ended(self, revision: str) -> Request | None:
        """The newest request of a revision, once it is closed and its runs have finished."""
        found = self.requests(revision)
        if not found or found[-1].active:
            return None
        runs = self.runs(found[-1])
        return found[-1] if all(r.is_finished for r in runs) else None

    def runs(self, request: Request) -> list[dg.DagsterRun]:
        return list(self.instance.get_runs(filters=dg.RunsFilter(tags={REQUEST_TAG: request.name})))

    def training(self, at_least: int) -> tuple[psutil.Process, Path] | None:
        """The training program and its job folder, once it has done `at_least` steps."""
        for folder in (self.settings.home / "jobs").glob("train-*"):
            lines: list[dict[str, Any]] = []
            forward_progress(folder, 0, lines.append)
            steps = [line.get("step", 0) for line in lines]
            if steps and max(s or 0 for s in steps) >= at_least and (folder / "pid").exists():
                programs = psutil.Process(int((folder / "pid").read_text())).children()  # of its keeper
                if programs:
                    return programs[0], folder
        return None

    def rollout_of(self, revision: str) -> RolloutState | None:
        """The newest rollout, if it is this revision's."""
        found = self.ledger.rollout(self.project.name)
        return found[3] if found and found[2] == revision else None

    def at_the_second_step(self, revision: str) -> bool:
        state = self.rollout_of(revision)
        return state is not None and state.step == 1

    def assert_released(self, request: Request, runs: int) -> None:
        """This request released, after this many runs of its revision; otherwise says why each generation ended.

        A generation that a busy daemon never launched counts for nothing: the next one replaces it.
        """
        generations = self.requests(request.revision)
        told = "".join(f"\n{r.name}: {r.status}: {r.detail}" for r in generations)
        assert (request.status, sum(len(self.runs(r)) for r in generations)) == ("released", runs), told

    def assert_production_serves_only(self, request: Request) -> RolloutState:
        """Its release was promoted, is deployed alone and answers; returns its rollout."""
        assert request.status == "released", request
        state, name = self.rollout_of(request.revision), self.project.name
        assert state is not None and state.status == "promoted"
        assert self.clients.serving.weights(name, "production") == {state.release: 1.0}
        assert self.clients.serving.deployed(name, "production") == (state.release,)
        assert self.ask().release == state.release
        return state

    def checkpoint(self, revision: str) -> Checkpoint:
        record = self.ledger.records_of("zoo", revision)["fine_tuned_checkpoint"]
        assert isinstance(record, Checkpoint)
        return record

    def ask(self) -> Answer:
        return ask(self.clients.serving.base_url("zoo", "production"), "zoo", "cat number 3 says", max_tokens=4)


class Users:
    """Sends requests to production continuously and records the answers."""

    def __init__(self, live: Live):
        self.live, self.answers = live, list[Answer]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.3):
            self.answers.append(self.live.ask())

    def __enter__(self) -> "Users":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def assert_all_answered(self) -> None:
        wrong = [a for a in self.answers if not a.ok]
        assert len(self.answers) > 10
        assert not wrong, f"{len(wrong)} of {len(self.answers)}: {wrong[0]}"
