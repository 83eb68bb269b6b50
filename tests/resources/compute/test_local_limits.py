"""Programs that do not end by themselves: forks, time limits, cancellation. Real processes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from resources.compute.interface import Job, ProgramError, TimeLimitReached
from resources.compute.local import LocalCompute
from tests.resources.compute.jobs import SUBMIT, Tree, alive, program_of
from tests.support.waiting import CEILING_S, wait_for

FORKS = """\
import argparse, json, os, pathlib, time

parser = argparse.ArgumentParser()
parser.add_argument("--spec", type=pathlib.Path)
parser.add_argument("--output", type=pathlib.Path)
given = parser.parse_args()
spec = json.loads(given.spec.read_text())
if spec.get("forks") and os.fork() == 0:
    os.setsid()
    time.sleep(600)
with pathlib.Path(spec["told"]).open("a") as told:
    told.write(given.output.name + "\\n")
while not pathlib.Path(spec["go"]).exists():
    time.sleep(0.02)
(given.output / "result.json").write_text("{}")
"""


class Waiting:
    """A program that writes its name, waits for a file, and may leave a fork in another session."""

    def __init__(self, folder: Path):
        self.folder = folder

    def job(self, name: str, **more: Any) -> Job:
        spec = {"told": str(self.folder / "told"), "go": str(self.folder / "go"), "forks": True}
        return Job(name=name, program="acme.waits", spec=spec, heavy=True, **more)

    @property
    def told(self) -> list[str]:
        file = self.folder / "told"
        return file.read_text().split() if file.exists() else []

    def left(self) -> list[psutil.Process]:
        """Processes of the program that still run."""
        return [p for p in psutil.process_iter() if "acme.waits" in _words(p)]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Waiting:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/__init__.py").touch()
    (tmp_path / "acme/waits.py").write_text(FORKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Waiting(tmp_path)


def test_a_fork_that_a_program_leaves_is_ended_and_not_adopted_as_the_program(
    compute: LocalCompute, waiting: Waiting
) -> None:
    """It had inherited the lock: the next run took it for the program, and waited for it forever."""
    (waiting.folder / "go").touch()
    compute.run(waiting.job("waits-1"))
    assert waiting.left() == [] and compute.ended() == ["waits-1"]
    assert compute.run(waiting.job("waits-1")).adopted


def test_a_program_at_its_time_limit_ends_as_a_whole_and_frees_the_slot(
    compute: LocalCompute, waiting: Waiting
) -> None:
    with pytest.raises(TimeLimitReached, match=r"did not end within 2 s.*compute\.time_limits\.checkpoint"):
        compute.run(waiting.job("waits-1", time_limit_s=2.0, asset="zoo/checkpoint"))
    assert waiting.left() == []
    (waiting.folder / "go").touch()
    compute.run(waiting.job("waits-2", time_limit_s=CEILING_S))
    assert waiting.told == ["waits-1", "waits-2"]


def test_the_slot_is_the_programs_and_not_its_runs(
    compute: LocalCompute, waiting: Waiting, python: Callable[..., Any], pool: ThreadPoolExecutor
) -> None:
    """A killed run freed the slot while its training went on: a second one started beside it."""
    submitter = python(SUBMIT, str(compute.jobs.parent), waiting.job("waits-1").model_dump_json())
    wait_for("its start", lambda: waiting.told)
    submitter.kill()
    lines: list[dict[str, Any]] = []
    second = pool.submit(compute.run, waiting.job("waits-2"), lines.append)
    wait_for("what it says", lambda: lines)
    assert lines[0]["phase"] == "wait" and waiting.told == ["waits-1"]
    first = pool.submit(compute.run, waiting.job("waits-1"))
    (waiting.folder / "go").touch()
    assert first.result(CEILING_S).adopted and not second.result(CEILING_S).adopted
    assert waiting.told == ["waits-1", "waits-2"]


def test_a_cancelled_job_ends_with_everything_that_it_started(
    compute: LocalCompute, tree: Tree, pool: ThreadPoolExecutor
) -> None:
    running = pool.submit(compute.run, tree.job())
    wait_for("its tests", lambda: tree.began)
    assert compute.cancel("ci-1")
    with pytest.raises(ProgramError):
        running.result(CEILING_S)
    wait_for("the end of its tests", lambda: not alive(tree.began[0]))
    assert not compute.cancel("ci-1") and not compute.cancel("never heard of")


def test_no_program_is_left_when_all_are_cancelled_also_those_whose_submitter_is_gone(
    compute: LocalCompute, tree: Tree, python: Callable[..., Any]
) -> None:
    submitter = python(SUBMIT, str(compute.jobs.parent), tree.job().model_dump_json())
    wait_for("its tests", lambda: tree.began)
    submitter.kill()
    submitter.wait()
    program = program_of(compute)
    assert compute.cancel_all() == ["ci-1"]
    assert not alive(program)
    wait_for("the end of its tests", lambda: not alive(tree.began[0]))
    assert compute.cancel_all() == []
