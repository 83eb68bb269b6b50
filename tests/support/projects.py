"""Real Git + DVC projects and whole worlds around them, for tests: built through the production assembly.

A `Project` is what a team owns; a `World` is a home folder with ledger, store, MLflow, serving and a Dagster instance
that watches projects. None of our own code is replaced.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import yaml

from llmops_assets.config.compute import ComputeSettings
from llmops_assets.config.serving import ServingSettings
from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import dump_settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.domain.chain import EVIDENCE_CHECK
from llmops_assets.domain.requests import Request
from llmops_assets.location import build_definitions, job_name
from resources.assembly import build_clients
from resources.compute.local import LocalCompute
from resources.ledger import Ledger
from resources.tracking.mlflow_server import MlflowServer
from tests.support.commands import llmops
from tests.support.ports import free_port
from tests.support.shared import once

ANIMALS = ["cat", "dog", "owl", "fox", "hen", "bat", "cow", "elk", "ant", "bee", "pig", "yak"]
BASE_CONFIG: dict[str, Any] = {
    "model": {"base": {"path": "models/base"}},
    "data": {"train": "data/train.jsonl", "test": "data/test.jsonl"},
    "prompt": "prompts/ask.jinja",
    "training": {
        "method": "lora", "prompt": "prompts/train.jinja", "lora": {"r": 4, "alpha": 8},
        "max_steps": 4, "batch_size": 4,
    },
    "evaluation": {"metrics": ["perplexity", "rougeL"], "max_rows": 6, "max_new_tokens": 8},
    "gates": [{"metric": "perplexity", "at_most": 1.0e9}],
    "deployment": {
        "serving": {"parallel": 4, "context_length": 256},
        "rollout": {
            "steps": [{"weight": "50%", "hold": "0.2s"}],
            "analysis": [{"metric": "error_rate", "at_most": "30%"}, {"metric": "p50_latency", "at_most": "600s"}],
            "min_samples": 4,
        },
    },
}  # fmt: skip

LIGHT: dict[str, Any] = {
    "evaluation": {"metrics": ["rougeL"], "max_rows": 2}, "gates": [{"metric": "rougeL", "at_least": 0.0}],
}  # fmt: skip
"""For tests that are not about evaluation: perplexity loads the quantized model again, by transformers."""
PYTEST_INI = "[pytest]\naddopts = " + " ".join(
    f"-p no:{plugin}"
    for plugin in ("hydra_pytest", "anyio", "xdist", "xdist.looponfail", "hypothesispytest", "platformdirs", "timeout")
) + "\n"  # fmt: skip
"""Leaves out the plugins that pytest finds in this environment: importing them takes two thirds of a second."""
COMPUTED = ("ledger.sqlite*", "mlflow.sqlite", "store")


def furnish(home: Path, cache: Path | None, forks: bool = True) -> None:
    """Gives a home what all homes of this session share, so that none spends seconds on making it.

    Args:
        cache: None: nothing is shared.
        forks: whether it shares the fork servers of programs (7 CPU seconds), besides the copy of MLflow's empty
            database (2).
    """
    home.mkdir(parents=True, exist_ok=True)
    if cache is None:
        return
    if forks and not (home / "preloaded").exists():
        (home / "preloaded").symlink_to(cache / "preloaded")
    if not (home / "mlflow.sqlite").exists():
        shutil.copyfile(empty_mlflow(cache), home / "mlflow.sqlite")


def empty_mlflow(cache: Path) -> Path:
    """MLflow's database with its tables, which it makes by all its migrations."""
    file = cache / "mlflow" / "mlflow.sqlite"
    once(file.parent, lambda: MlflowServer(f"sqlite:///{file}").client)
    return file


def take_over(computed: Path, home: Path) -> None:
    """Copies one home's computed results into another. Records name artifacts by digest, independent of the folder."""
    home.mkdir(parents=True, exist_ok=True)
    for source in (found for pattern in COMPUTED for found in computed.glob(pattern)):
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, home / source.name)


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Merges `change` into a copy of `base`, recursively; a None removes a key."""
    merged = dict(base)
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def rows(count: int, start: int = 0) -> list[dict[str, str]]:
    """Distinct rows of a simple task."""
    made = []
    for n in range(start, start + count):
        animal = ANIMALS[n % len(ANIMALS)]
        made.append({"input": f"{animal} number {n} says", "output": f"The {animal} says {n}."})
    return made


def write_rows(path: Path, values: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(v) + "\n" for v in values))


class Project:
    """A team's clone, its bare Git remote and its DVC remote, all in one folder."""

    def __init__(self, root: Path, name: str):
        self.root, self.name = root, name
        self.folder, self.remote = root / "work", root / "remote.git"

    @classmethod
    def create(cls, root: Path, name: str, base: Path, change: dict[str, Any] | None = None) -> "Project":
        """Creates a project with a first commit, pushed by DVC but not by Git."""
        project = cls(root, name)
        root.mkdir(parents=True, exist_ok=True)
        _git(root, "init", "--quiet", "--bare", "--initial-branch=main", str(project.remote))
        _git(root, "clone", "--quiet", str(project.remote), str(project.folder))
        for key, value in {"user.name": "Ada", "user.email": "ada@example.com"}.items():
            project.git("config", key, value)
        project.git("checkout", "--quiet", "-B", "main")
        project.configure(change or {})
        project.write("prompts/ask.jinja", "Question: {{ input }}\n")
        project.write("prompts/train.jinja", "Question: {{ input }}\n")
        project.write("README.md", "# A project\n")
        project.write("pytest.ini", PYTEST_INI)
        project.write("tests/test_nothing_is_broken.py", "def test_two_and_two_are_four():\n    assert 2 + 2 == 4\n")
        write_rows(project.folder / "data/train.jsonl", rows(24))
        write_rows(project.folder / "data/test.jsonl", rows(8, start=1000))
        shutil.copytree(base, project.folder / "models/base")
        from dvc.repo import Repo

        Repo.init(str(project.folder)).close()
        project.write(
            ".dvc/config",
            "[core]\n    analytics = false\n    remote = storage\n['remote \"storage\"']\n    url = ../../dvc-remote\n",
        )
        project.dvc_add("data/train.jsonl", "data/test.jsonl", "models/base")
        project.commit("First commit")
        return project

    def copy_to(self, root: Path) -> "Project":
        """Copies the project with its history and both remotes; the DVC remote's path is relative."""
        shutil.copytree(self.root, root, symlinks=True)
        copy = Project(root, self.name)
        copy.git("remote", "set-url", "origin", str(copy.remote))
        return copy

    def git(self, *args: str) -> str:
        return _git(self.folder, *args)

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def configure(self, change: dict[str, Any]) -> None:
        """Writes llmops.yaml: the current file (or the base) with `change` merged into it."""
        file = self.folder / "llmops.yaml"
        now = yaml.safe_load(file.read_text()) if file.exists() else {"name": self.name, **BASE_CONFIG}
        file.write_text(yaml.safe_dump(merge(now, change), sort_keys=False))

    def dvc_add(self, *paths: str, push: bool = True) -> None:
        from dvc.repo import Repo

        targets = [str(self.folder / p) for p in paths]
        with Repo(str(self.folder)) as repo:
            repo.add(targets)
            if push:
                repo.push(targets)

    def dvc_push(self) -> None:
        from dvc.repo import Repo

        with Repo(str(self.folder)) as repo:
            repo.push()

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.head

    def push(self, *extra: str) -> str:
        self.git("push", "--quiet", *extra, "origin", "main")
        return self.head

    def ship(self, message: str, change: dict[str, Any] | None = None) -> str:
        """Configures, commits and pushes."""
        if change is not None:
            self.configure(change)
        self.commit(message)
        return self.push()

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")


def _git(folder: Path, *args: str) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(["git", *args], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"git {' '.join(args)}: {done.stderr}"
    return done.stdout.strip()


class Outcome:
    """The result of one `settle`: the reasons of skipped ticks, and the runs."""

    def __init__(self) -> None:
        self.skips: dict[str, str] = {}
        self.runs: list[dg.ExecuteInProcessResult] = []

    @classmethod
    def of(cls, run: dg.ExecuteInProcessResult) -> "Outcome":
        """The outcome of a single run."""
        outcome = cls()
        outcome.runs.append(run)
        return outcome

    @property
    def materialized(self) -> set[str]:
        """The stages that any run materialized."""
        return {e.asset_key.path[-1] for r in self.runs for e in r.get_asset_materialization_events() if e.asset_key}

    @property
    def computed(self) -> set[str]:
        """The stages that were computed, without those that were reused."""
        events = [e for r in self.runs for e in r.get_asset_materialization_events()]
        return {
            e.asset_key.path[-1]
            for e in events
            if e.asset_key and "reused" not in (e.step_materialization_data.materialization.tags or {})
        }

    @property
    def refusals(self) -> dict[str, str]:
        """The reasons of the stages that refused to act, by stage."""
        checks = [e for run in self.runs for e in run.get_asset_check_evaluations() if e.check_name == EVIDENCE_CHECK]
        return {check.asset_key.path[-1]: check.description or "" for check in checks if not check.passed}

    @property
    def failures(self) -> str:
        """The error messages of all failed steps, and the reasons of all stages that refused to act."""
        said = [f"{stage} refuses: {reasons}" for stage, reasons in self.refusals.items()]
        for result in self.runs:
            for event in result.all_events:
                if event.is_step_failure:
                    data = event.step_failure_data
                    description = data.user_failure_data.description if data.user_failure_data else None
                    said.append(description or (data.error.to_string() if data.error else ""))
        return "\n".join(said)


Patience = tuple[float, Callable[[str], None]]


class World:
    """A home folder that watches projects: production assembly, real components, its own Dagster instance.

    Args:
        computed: a home whose computed results are copied into this one first.
        patience: how long to wait for a locked ledger, in seconds, and a callback for the message; None: the default.
        dagster_on_disk: whether other processes see Dagster's instance. In memory, a run costs half the CPU time (3.2
            and 6.1 seconds): on disk, Dagster makes an SQLite engine per query and compiles each statement again.
        preload: whether programs are forked also where each would import its libraries, as in a pod: 10 CPU seconds.
        settings: overrides of the settings that all worlds share.
    """

    cache: ClassVar[Path | None] = None
    """What all worlds share; see `furnish`."""

    def __init__(
        self,
        home: Path,
        *projects: Project,
        computed: Path | None = None,
        patience: Patience | None = None,
        dagster_on_disk: bool = False,
        preload: bool = False,
        **settings: Any,
    ):
        if computed is not None:
            take_over(computed, home)
        settings = {
            "serving": ServingSettings(port=free_port()),
            "compute": ComputeSettings(threads=1),
            "projects": tuple(ProjectSource(name=p.name, repository=str(p.remote)) for p in projects),
            **settings,
        }
        self.home = home
        self.settings = Settings(home=home, **settings)
        (home / "dagster").mkdir(parents=True, exist_ok=True)
        furnish(home, self.cache)
        make_instance = dg.DagsterInstance.local_temp if dagster_on_disk else dg.DagsterInstance.ephemeral
        self.instance = make_instance(str(home / "dagster"))
        self.clients = build_clients(self.settings)
        if preload:
            self.clients = replace(self.clients, compute=LocalCompute(home, threads=1, preload=True))
        if patience is not None:
            self.clients = replace(self.clients, ledger=self.clients.ledger.patient(*patience))
        self.defs = build_definitions(self.settings, **{k: v for k, v in vars(self.clients).items() if k != "settings"})

    @property
    def ledger(self) -> Ledger:
        return self.clients.ledger

    def source(self, name: str | None = None) -> Any:
        return self.clients.sources(self.settings.project(name))

    def tick(self, name: str) -> tuple[str | None, list[dg.RunRequest]]:
        """Evaluates one sensor tick; returns (skip reason, run requests)."""
        sensor = (
            self.defs.resolve_sensor_def(name)
            if hasattr(self.defs, "resolve_sensor_def")
            else self.defs.get_sensor_def(name)
        )
        with dg.build_sensor_context(instance=self.instance, resources=self.clients.as_resources()) as context:
            data = sensor.evaluate_tick(context)
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        return data.skip_message, list(data.run_requests or [])

    def execute(self, project: str, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        job = self.defs.resolve_job_def(job_name(self.settings.project(project)))
        return job.execute_in_process(
            instance=self.instance,
            tags=dict(request.tags),
            asset_selection=request.asset_selection,
            raise_on_error=False,
        )

    def settle(self, on_run: Callable[[dg.RunRequest], None] | None = None, rounds: int = 6) -> Outcome:
        """Ticks all sensors and executes the runs they request, until a round requests none."""
        outcome = Outcome()
        for _ in range(rounds):
            asked = False
            for project in self.settings.projects:
                for kind in ("git", "dvc", "recovery"):
                    skip, requests = self.tick(f"{project.group}_{kind}")
                    if skip:
                        outcome.skips[f"{project.name}:{kind}"] = skip
                    for request in requests:
                        asked = True
                        if on_run is not None:
                            on_run(request)
                        outcome.runs.append(self.execute(project.name, request))
            if not asked:
                break
        return outcome

    def materialize(
        self, project: str, *stages: str, tags: dict[str, str] | None = None, config: Any = None
    ) -> dg.ExecuteInProcessResult:
        """Materializes only these stages, without a request, as a click on Materialize does."""
        job = self.defs.resolve_job_def(job_name(self.settings.project(project)))
        return job.execute_in_process(
            instance=self.instance, asset_selection=[dg.AssetKey([project, s]) for s in stages], tags=tags or {},
            run_config=config, raise_on_error=False,
        )  # fmt: skip

    def llmops(self, *words: str, user: str = "eve@example.com") -> tuple[int, str]:
        """Runs a command as a user does; returns (exit code, stdout and stderr)."""
        file = self.home / "settings.yaml"
        file.write_text(dump_settings(self.settings))
        own = {"LLMOPS_HOME": str(self.home), "LLMOPS_SETTINGS": str(file), "DAGSTER_HOME": str(self.home / "dagster")}
        done = llmops(*words, env={**os.environ, **own, "COLUMNS": "200", "LLMOPS_USER": user})
        return done.returncode, done.stdout + done.stderr

    def down(self) -> None:
        self.clients.compute.cancel_all()
        self.clients.serving.down(forget=True)


class Watched:
    """The project zoo and the world that watches it, with its newest request and its release in production."""

    def __init__(self, project: Project, world: World):
        self.project, self.world = project, world

    def skip(self, kind: str = "git") -> str:
        """The reason why a sensor requests no run now."""
        reason, requests = self.world.tick(f"zoo_{kind}")
        assert requests == []
        return reason or ""

    @property
    def request(self) -> Request:
        return self.world.ledger.requests("zoo")[-1]

    @property
    def production(self) -> str:
        serving = self.world.ledger.serving("zoo", "production")
        assert serving is not None
        return serving.release
