"""Whether a run's worker is alive: a dead worker that looks alive would block its project permanently."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster import DagsterRun
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.launcher.base import WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from llmops_assets.machine.processes import birth
from resources.run_launching.process_launcher import ProcessRunLauncher
from resources.run_launching.run_workers import BIRTH_TAG, PID_TAG, start_detached, worker_of, worker_tags
from tests.support.waiting import CEILING_S, wait_for

SLEEPER = "import time; time.sleep(600)"
TELLER = """
import json, os, sys
said = {"pid": os.getpid(), "session": os.getsid(0), "cwd": os.getcwd()}
said |= {"args": sys.argv[1:], "env": os.environ.get("SAID")}
said |= {"imported": [name for name in ("dagster", "mlflow", "torch") if name in sys.modules]}
print(json.dumps(said), flush=True)
raise ValueError("and then it broke")
"""


def run_with(tags: dict[str, str]) -> DagsterRun:
    return DagsterRun(job_name="zoo_deliver", tags=tags)


def test_a_living_worker_is_known_by_its_pid_and_its_start(python: Callable[..., Any]) -> None:
    process = python(SLEEPER)
    worker = worker_of(run_with(worker_tags(psutil.Process(process.pid))))
    assert worker is not None and worker.pid == process.pid


def test_a_dead_worker_is_gone(python: Callable[..., Any]) -> None:
    process = python(SLEEPER)
    run = run_with(worker_tags(psutil.Process(process.pid)))
    process.kill()
    process.wait()
    assert worker_of(run) is None


def test_a_worker_that_nobody_reaped_is_gone(python: Callable[..., Any]) -> None:
    """The daemon is the parent of its workers: until it reaps a dead one, that is a zombie with a pid."""
    process = python(SLEEPER)
    run = run_with(worker_tags(psutil.Process(process.pid)))
    process.kill()
    wait_for("its end", lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert worker_of(run) is None


def test_a_pid_that_is_somebody_elses_by_now_is_not_the_worker() -> None:
    """After a reboot low pids are reused: the run looked alive forever, and its termination killed another process."""
    own = psutil.Process(os.getpid())
    boot, _, ticks = birth(own.pid).partition(":")
    tags = worker_tags(own) | {BIRTH_TAG: f"another-boot:{ticks}"}
    assert worker_of(run_with(tags)) is None
    tags = worker_tags(own) | {BIRTH_TAG: f"{boot}:{int(ticks) - 1}"}
    assert worker_of(run_with(tags)) is None


def test_a_worker_is_the_same_one_after_the_clock_was_set(
    python: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers were identified by creation time: after a clock change all looked dead, and their runs started twice."""
    process = python(SLEEPER)
    run = run_with(worker_tags(psutil.Process(process.pid)))
    before = psutil.Process(process.pid).create_time()
    kernel = Path("/proc/stat").read_text()  # holds the boot time by the current wall clock
    booted = int(next(line.split()[1] for line in kernel.splitlines() if line.startswith("btime")))
    (tmp_path / "stat").write_text(kernel.replace(f"btime {booted}", f"btime {booted + 86_400}"))
    (tmp_path / str(process.pid)).symlink_to(f"/proc/{process.pid}")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert psutil.Process(process.pid).create_time() == pytest.approx(before + 86_400, abs=2)
    worker = worker_of(run)
    assert worker is not None and worker.pid == process.pid


@pytest.mark.parametrize("tags", [{}, {PID_TAG: "no number", BIRTH_TAG: "boot:1"}, {PID_TAG: "1"}])
def test_tags_that_say_nothing_name_no_worker(tags: dict[str, str]) -> None:
    assert worker_of(run_with(tags)) is None


def test_the_launcher_tells_a_dead_worker_from_a_living_one_and_from_none(python: Callable[..., Any]) -> None:
    launcher = ProcessRunLauncher()
    process = python(SLEEPER)
    run = run_with(worker_tags(psutil.Process(process.pid)))
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
    process.kill()
    process.wait()
    health = launcher.check_run_worker_health(run)
    assert health.status == WorkerStatus.FAILED and str(process.pid) in (health.msg or "")
    assert launcher.check_run_worker_health(run_with({})).status == WorkerStatus.UNKNOWN


def test_a_worker_runs_as_if_started_from_here_and_is_nobodys_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fork server is as old as the daemon; a worker must see its launcher's current environment."""
    (tmp_path / "teller.py").write_text(TELLER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # an earlier test may have started it, with other modules
    for word in ("first", "second"):
        monkeypatch.setenv("SAID", word)
        log = tmp_path / f"{word}.log"
        pid = start_detached("teller", ["api", word], log)
        wait_for("its words", lambda log=log: "and then it broke" in log.read_text())
        assert json.loads(log.read_text().splitlines()[0]) == {
            "pid": pid, "session": pid, "cwd": str(tmp_path), "args": ["api", word], "env": word,
            "imported": ["dagster", "mlflow"],
        }  # fmt: skip
        assert pid not in [child.pid for child in psutil.Process().children(recursive=True)]


@dataclass(frozen=True)
class Launched:
    """What a launcher left that was killed: the log of its first workers, the pid and the log of its last."""

    told: list[str]
    pid: int
    last: Path


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """A launcher of its own copy of the code, which is upgraded meanwhile. One for all: a fork server costs seconds."""
    folder, root = tmp_path_factory.mktemp("launched"), Path(__file__).parents[3]
    site, log, pid, last = (folder / name for name in ("site", "log", "pid", "last"))
    for package in ("llmops_assets", "resources", "sensors"):
        shutil.copytree(root / package, site / package)
    (site / "teller.py").write_text("import llmops_assets.location as l; print(getattr(l, 'NEWER', False), flush=True)")
    (site / "sleeper.py").write_text("print('asleep', flush=True)\n" + SLEEPER)
    code = (
        "import os, signal\n"
        "from pathlib import Path; from resources.run_launching.run_workers import start_detached\n"
        "from tests.support.waiting import wait_for\n"
        f"site, log = Path({str(site)!r}), Path({str(log)!r})\n"
        "for known in (1, 2, 3):\n"
        "    start_detached('teller', [], log)\n"
        "    wait_for('its words', lambda: len(log.read_text().splitlines()) == known)\n"
        "    if known == 2:\n"
        "        with (site / 'llmops_assets/location.py').open('a') as file: file.write('NEWER = True\\n')\n"
        f"Path({str(pid)!r}).write_text(str(start_detached('sleeper', [], Path({str(last)!r}))))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(root)])}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=site, timeout=CEILING_S)
    assert done.returncode == -signal.SIGKILL
    worker = int(pid.read_text())
    yield Launched(log.read_text().splitlines(), worker, last)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(worker).kill()


def test_a_worker_after_an_upgrade_runs_the_new_code(launched: Launched) -> None:
    """The fork server of a daemon that goes on still has the old code."""
    assert launched.told == ["False", "False", "True"]


def test_a_worker_outlives_its_launcher(launched: Launched) -> None:
    worker = psutil.Process(launched.pid)
    wait_for("its word", lambda: "asleep" in launched.last.read_text())
    assert worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE


def test_an_instance_can_be_told_to_use_it(tmp_path: Path) -> None:
    """Configured by name, as in dagster.yaml: a later daemon creates its own launcher."""
    config = "run_launcher: {module: resources.run_launching.process_launcher, class: ProcessRunLauncher}\n"
    (tmp_path / "dagster.yaml").write_text(config)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, ProcessRunLauncher)
        assert instance.run_launcher.supports_check_run_worker_health


def test_a_run_that_two_daemons_launch_at_once_has_one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second worker ended itself as a duplicate, the run's tags named it, and the monitor declared the run dead."""
    slow = "import time\nimport dagster as dg\n@dg.op\ndef wait(): time.sleep(600)\n@dg.job\ndef slow(): wait()\n"
    (tmp_path / "slow_job.py").write_text(slow)
    (tmp_path / "dagster.yaml").write_text(
        "run_launcher: {module: resources.run_launching.process_launcher, class: ProcessRunLauncher}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    job = importlib.import_module("slow_job").slow
    code = RepositoryPythonOrigin(sys.executable, ModuleCodePointer("slow_job", "slow", str(tmp_path)))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        run = instance.create_run_for_job(job, job_code_origin=JobPythonOrigin("slow", code))
        with ThreadPoolExecutor(2) as daemons:
            list(daemons.map(lambda _: instance.run_launcher.launch_run(LaunchRunContext(run, None)), range(2)))
        launched = instance.get_run_by_id(run.run_id)
        worker = worker_of(launched) if launched else None
        assert worker is not None
        said = [e.message for e in instance.all_logs(run.run_id)]
        assert said.count(f"worker is process {worker.pid}") == 1, said
        assert len([text for text in said if text.startswith("worker is process")]) == 1, said
        assert instance.run_launcher.terminate(run.run_id)
        worker.kill()


def test_the_tags_of_a_process_survive_as_text() -> None:
    child = subprocess.Popen([sys.executable, "-c", SLEEPER])
    try:
        tags = worker_tags(psutil.Process(child.pid))
        assert all(isinstance(v, str) for v in tags.values()) and worker_of(run_with(dict(tags))) is not None
    finally:
        child.kill()
        child.wait()
