"""Runs `llmops demo`: creates the example project, pushes seven changes and prints each outcome.

It only commits, adds data and pushes: the daemon's sensors do everything else. All output is read from the ledger and
from Dagster.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
from rich.console import Console
from rich.table import Table

from llmops_assets.config.serving import ServingSettings
from llmops_assets.config.settings import Settings, default_home
from llmops_assets.config.settings_file import dump_settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.asset_events import MaterializationHistory
from llmops_assets.delivery.progress import progress_text
from llmops_assets.delivery.run_tags import REQUEST_TAG, REVISION_TAG
from llmops_assets.demo.acts import Act, Ran, acts
from llmops_assets.demo.reviews import review_of_commit
from llmops_assets.demo.users import Users
from llmops_assets.domain.chain import STAGES
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Measured
from llmops_assets.domain.requests import Request
from llmops_assets.machine.processes import wait_for
from llmops_assets.programs.runtime.entry import MESSAGES
from resources.assembly import build_clients
from resources.compute.pipes import forward_progress
from resources.ledger import Ledger
from resources.local_services import services

NAME = "docstring-summarizer"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / NAME
ACT_TIMEOUT_S = 900.0
TICK_S = 15.0
MARKER = "made-by-llmops-demo"
out = Console(highlight=False, soft_wrap=True)


class Ports:
    """The demo's ports, each configurable by an environment variable."""

    def __init__(self) -> None:
        self.dagster = int(os.environ.get("DAGSTER_PORT", "3000"))
        self.mlflow = int(os.environ.get("MLFLOW_PORT", "5000"))
        self.gateway = int(os.environ.get("GATEWAY_PORT", "8300"))


class DemoLocation:
    """The demo's settings, clients and folders."""

    def __init__(self, home: Path, ports: Ports, folder: Path, remote: Path):
        self.ports, self.folder = ports, folder
        self.settings = Settings(
            home=home,
            projects=(ProjectSource(name=NAME, repository=str(remote)),),
            dagster_ui=f"http://127.0.0.1:{ports.dagster}",
            mlflow_ui=f"http://127.0.0.1:{ports.mlflow}",
            serving=ServingSettings(port=ports.gateway),
        )
        self.clients = build_clients(self.settings)
        self.ledger: Ledger = self.clients.ledger
        self.began = time.monotonic()

    @property
    def base_url(self) -> str:
        return str(self.clients.serving.base_url(NAME, "production"))

    def quality(self) -> dict[str, float]:
        """The metrics of the champion's served evaluation report."""
        now = self.ledger.serving(NAME, "production")
        report = self.ledger.records_of(NAME, now.revision).get("served_evaluation_report") if now else None
        return {m.name: m.value for m in report.metrics} if isinstance(report, Measured) else {}


def example() -> ModuleType:
    """Imports the example's own builder."""
    script = EXAMPLE / "make_project.py"
    if not script.is_file():
        raise ConfigError([f"{script} is missing: run the demo from a clone; an installed package does not contain it"])
    sys.path.insert(0, str(EXAMPLE))
    spec = importlib.util.spec_from_file_location("make_project", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def play(fresh: bool) -> bool:
    """Plays all acts and returns whether all had the expected outcome.

    Raises:
        ConfigError: a port is in use, or the home folder contains something else.
    """
    home, ports = default_home(), Ports()
    _clear(home, ports, fresh)
    root = home / "demo"
    builder = example()
    out.print(f"[bold]Setting up[/bold] in {home}")
    began = time.monotonic()
    builder.make_project(root / "work", root / "remote.git", root / "dvc-remote", home / "cache")
    stage = DemoLocation(home, ports, root / "work", root / "remote.git")
    (home / "settings.yaml").write_text(dump_settings(stage.settings))
    os.environ["LLMOPS_SETTINGS"] = str(home / "settings.yaml")
    os.environ["LLMOPS_HOME"] = str(home)
    services.start(stage.settings, ports.dagster, ports.mlflow, out.print)
    out.print(f"ready after {time.monotonic() - began:.0f} s; watch at {stage.settings.dagster_ui}\n")
    stage.began = time.monotonic()
    results: list[Ran] = []
    with dg.DagsterInstance.from_config(str(services.dagster_home(stage.settings))) as instance:
        played = acts(builder, root / "work")
        for act in played:
            results.append(_play_act(stage, instance, act, results))
            if results[-1].problems and act.number == 1:
                break  # later acts need a first release
    _show(stage, results)
    return all(not r.problems for r in results) and len(results) == len(played)


def _clear(home: Path, ports: Ports, fresh: bool) -> None:
    if home.exists() and any(home.iterdir()) and not (home / MARKER).exists():
        raise ConfigError([f"{home} is not a demo folder; set LLMOPS_HOME to another folder"])
    home.mkdir(parents=True, exist_ok=True)
    (home / MARKER).touch()
    if fresh:
        settings = Settings(home=home, serving=ServingSettings(port=ports.gateway))
        services.stop(settings)
        clients = build_clients(settings)
        clients.compute.cancel_all()
        clients.serving.down(forget=True)
        for path in home.iterdir():
            if path.name not in (MARKER, "cache"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, port in vars(ports).items():
        if not services.port_is_free(port):
            raise ConfigError([f"port {port} is in use; choose another: {name.upper()}_PORT=… make demo"])


def _play_act(stage: DemoLocation, instance: dg.DagsterInstance, act: Act, before: list[Ran]) -> Ran:
    out.print(f"[bold]Act {act.number}: {act.title}[/bold]")
    quality = stage.quality()
    users = Users(stage.base_url, NAME)
    with users if before else nullcontext():  # during the first act there is no endpoint yet
        sha = act.push(before)
        pushed = time.monotonic()
        out.print(f"  pushed {short(sha)}")
        request = _follow(stage, instance, sha, pushed)
        seconds = time.monotonic() - pushed
        time.sleep(act.watched_s)
    result = Ran(
        act=act,
        revision=sha,
        seconds=seconds,
        status=request.status if request else "no request",
        why=(request.detail if request.status in ("rejected", "failed") else request.reason) if request else "",
        stages=_stages(instance, request) if request else (),
        reused=tuple(s for s, e in stage.ledger.edges(NAME, sha).items() if e.reused),
        release=now.release if (now := stage.ledger.serving(NAME, "production")) else None,
        before=quality,
        after=stage.quality(),
        tick=_tick(instance, sha) if request and request.status == "skipped" else "",
        verdicts=tuple(v for _, v in stage.ledger.verdicts(NAME, sha) if not v.passed),
        review=review_of_commit(stage.clients, stage.settings.projects[0], sha),
        runs=instance.get_runs_count(dg.RunsFilter(tags={REVISION_TAG: sha})),
        asked=users.asked,
        unanswered=tuple(users.unanswered),
    )
    problems = act.check(result, before)
    if act.number == 1 and not problems:
        answer = users.ask()
        out.print(f"  production's answer to the openai client: {answer!r}")
        problems += () if answer.strip() else ("production gave an empty answer",)
    result = result.model_copy(update={"problems": problems})
    for problem in result.problems:
        out.print(f"  [red]✗ {problem}[/red]")
    if result.asked:
        out.print(f"  production answered {result.asked - len(result.unanswered)} of {result.asked} requests")
    out.print(f"  [green]✓[/green] {result.status} after {result.seconds:.0f} s" if not problems else "", "\n")
    return result


def _follow(stage: DemoLocation, instance: dg.DagsterInstance, sha: str, began: float) -> Request | None:
    """Waits until the sensors and their run have completed this commit, and prints the progress."""
    shown, last = "", 0.0
    while time.monotonic() - began < ACT_TIMEOUT_S:
        mine = [r for r in stage.ledger.requests(NAME) if r.revision == sha]
        if mine and not mine[-1].active and _run_is_over(instance, mine[-1].run_id):
            return mine[-1]
        text = _progress(stage, instance, mine[-1]) if mine else "waiting for the sensors"
        head = text.split(":")[0]
        if head != shown or time.monotonic() - last > 10:
            out.print(f"  [dim]{time.monotonic() - began:5.0f} s[/dim]  {text}")
            shown, last = head, time.monotonic()
        time.sleep(0.5)
    return None


def _run_is_over(instance: dg.DagsterInstance, run_id: str | None) -> bool:
    run = instance.get_run_by_id(run_id) if run_id else None
    return run is None or run.is_finished


def _progress(stage: DemoLocation, instance: dg.DagsterInstance, request: Request) -> str:
    if request.run_id is None:
        return "starting a run"
    started = [
        e.step_key for e in instance.all_logs(request.run_id, of_type=dg.DagsterEventType.STEP_START) if e.step_key
    ]
    name = started[-1].split("__")[-1] if started else "starting"
    program = STAGES[name].program if name in STAGES else None
    folders = [p.parent for p in (stage.settings.home / "jobs").glob(f"{program}-*/{MESSAGES}")]
    newest = max(folders, key=lambda f: (f / MESSAGES).stat().st_mtime, default=None)
    lines: list[dict[str, Any]] = []
    if newest is not None:
        forward_progress(newest, 0, lines.append)
    return f"{name}: {progress_text(lines[-1])}" if lines else name


def _stages(instance: dg.DagsterInstance, request: Request) -> tuple[str, ...]:
    """The stages that this commit's runs computed, without those that they reused."""
    found: dict[str, None] = {}
    for run in instance.get_runs(filters=dg.RunsFilter(tags={REQUEST_TAG: request.name})):
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            materialization = entry.asset_materialization
            if materialization is not None and "reused" not in (materialization.tags or {}):
                found[materialization.asset_key.path[-1]] = None
    return tuple(found)


def _tick(instance: dg.DagsterInstance, sha: str) -> str:
    """The Git sensor's skip reason for this commit, which Dagster shows shortly after the ledger has it."""
    found: list[str] = []

    def said() -> bool:
        for state in instance.all_instigator_state():
            if state.name.endswith("_git"):
                ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=30)
                found.extend(t.skip_reason for t in ticks if t.skip_reason and short(sha) in t.skip_reason)
        return bool(found)

    wait_for(said, TICK_S, every_s=0.5)
    return found[-1] if found else ""


def _show(stage: DemoLocation, results: list[Ran]) -> None:
    table = Table(title="Outcome of each push", title_justify="left", show_lines=True)
    for column in ("act", "outcome", "computed", "reused", "why", "s", "perplexity", "ROUGE-L"):
        table.add_column(column)

    def figures(r: Ran, name: str) -> str:
        was, now = r.before.get(name), r.after.get(name)
        return f"{was:.3g} → {now:.3g}" if was is not None and now is not None else (f"{now:.3g}" if now else "")

    for r in results:
        mark = "[red]✗[/red] " + "; ".join(r.problems) if r.problems else "[green]✓[/green] " + r.status
        table.add_row(
            f"{r.act.number} {r.act.title}",
            mark,
            ", ".join(r.stages) or "nothing",
            ", ".join(r.reused) or "nothing",
            r.tick or r.why,
            f"{r.seconds:.0f}",
            figures(r, "perplexity"),
            figures(r, "rougeL"),
        )
    Console(highlight=False, width=max(140, out.width)).print(table)
    out.print(f"all acts took {time.monotonic() - stage.began:.0f} s\n")
    if stage.ledger.serving(NAME, "production"):
        out.print("[bold]Provenance of production[/bold] (llmops trace production)")
        sys.stdout.flush()
        subprocess.run([sys.executable, "-m", "llmops_assets.cli", "trace", "production"], check=False)
    out.print("\n[bold]Running until `make down`[/bold]")
    links: dict[str, Callable[[], str]] = {
        "Dagster": lambda: str(stage.settings.dagster_ui),
        "MLflow": lambda: str(stage.settings.mlflow_ui),
        "report": lambda: _report(stage),
        "production": lambda: stage.base_url,
        "staging": lambda: str(stage.clients.serving.base_url(NAME, "staging")),
    }
    for name, link in links.items():
        out.print(f"  {name:11} {link()}")


def _report(stage: DemoLocation) -> str:
    """The champion's report with the verdict that counted."""
    with dg.DagsterInstance.from_config(str(services.dagster_home(stage.settings))) as instance:
        return MaterializationHistory(instance, NAME).judged_page("served_evaluation_report") or "none"
