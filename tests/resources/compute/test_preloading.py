"""Preloaded programs have the guarantees of separate processes, and give the same results.

The program is `evaluate` with a project's own metric. The metric's file writes that it was imported and then waits for
a file, so the program pauses before it loads a model.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmops_assets.machine.forked import SERVER
from llmops_assets.machine.processes import command_line
from llmops_assets.machine.unix_sockets import socket_folder
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import (
    CiResult,
    CodeRules,
    EvaluateResult,
    EvaluateSpec,
    MetricSpec,
    TrainResult,
    TrainSpec,
)
from resources.compute.interface import Finished, Job, ProgramError
from resources.compute.local import LocalCompute
from tests.support.projects import rows, write_rows
from tests.support.waiting import CEILING_S, wait_for

METRIC = """\
import json, os, pathlib, random, subprocess, time
HERE = pathlib.Path(FOLDER)
child = subprocess.Popen(["sleep", "600"])
seen = {"pid": os.getpid(), "child": child.pid, "environment": dict(os.environ), "random": random.random()}
(HERE / "part").write_text(json.dumps(seen))
(HERE / "part").rename(HERE / "began")
while not (HERE / "go").exists():
    time.sleep(0.02)
child.kill()
child.wait()

def length(prediction, reference):
    return len(prediction) / len(reference)
"""


class Evaluation:
    """An evaluation that waits, and what its program reported about itself."""

    def __init__(self, folder: Path, data: Path, base: Path):
        self.folder, self.data, self.base = folder, data, base
        folder.mkdir()
        (folder / "metric.py").write_text(METRIC.replace("FOLDER", repr(str(folder))))

    def go(self) -> None:
        (self.folder / "go").touch()

    @property
    def began(self) -> dict[str, Any] | None:
        file = self.folder / "began"
        return json.loads(file.read_text()) if file.exists() else None

    def job(self, name: str = "evaluate-1", **change: Any) -> Job:
        own = MetricSpec(name="length", file="metric.py", function="length", tree=str(self.folder))
        spec = EvaluateSpec(
            method="none", base=str(self.base), checkpoint=str(self.base), data=str(self.data), prompt="{{ input }}",
            metrics=(MetricSpec(name="perplexity"), MetricSpec(name="rougeL"), own), max_new_tokens=4,
            code=CodeRules(isolation="off"),  # it is watched and continued by files
        )  # fmt: skip
        return Job(name=name, program="evaluate", spec=spec.model_copy(update=change).model_dump(mode="json"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for split, first, count in (("train", 0, 16), ("validation", 16, 4), ("test", 20, 4)):
        write_rows(folder / f"{split}.jsonl", rows(count, start=first))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home for all tests of this file, of a location with secrets, so that libraries are imported only once."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        patch.setenv("LLMOPS_HOME", "/s3cret")
        yield home
    LocalCompute(home).cancel_all()
    assert servers(home) == []


@dataclass(frozen=True)
class Alone:
    """An evaluation for which no server could be started: its result, and the program's log."""

    result: EvaluateResult
    log: str


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, data: Path, base: Path) -> Alone:
    folder = tmp_path_factory.mktemp("alone")
    (folder / "preloaded").write_text("a file where the folder should be\n")
    compute = LocalCompute(folder, threads=1, poll_s=0.02, preload=True)
    evaluation = Evaluation(folder / "evaluation", data, base)
    evaluation.go()
    done = compute.run(evaluation.job())
    return Alone(done.read(EvaluateResult), (compute.folder("evaluate-1") / "log.txt").read_text())


@pytest.fixture
def compute(home: Path) -> Iterator[LocalCompute]:
    compute = LocalCompute(home, threads=1, poll_s=0.02, preload=True)
    yield compute
    for folder in (home / "jobs").iterdir():
        compute.cancel(folder.name)
        wait_gone(compute, folder.name)
        compute.clean(folder.name)


@pytest.fixture
def evaluation(tmp_path: Path, data: Path, base: Path) -> Evaluation:
    return Evaluation(tmp_path / "evaluation", data, base)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def wait_gone(compute: LocalCompute, name: str) -> None:
    file = compute.folder(name) / "pid"
    if file.exists() and psutil.pid_exists(int(file.read_text())):
        psutil.wait_procs([psutil.Process(int(file.read_text()))], timeout=CEILING_S)


def servers(home: Path) -> list[psutil.Process]:
    """A home's fork servers."""
    sockets = str(socket_folder(home / "preloaded"))  # in /tmp, if the home's path is too long for a socket
    words = ((p, command_line(p)) for p in psutil.process_iter())
    return [p for p, w in words if SERVER in w and any(word.startswith(sockets) for word in w)]


def program_of(compute: LocalCompute, name: str = "evaluate-1") -> psutil.Process:
    """The program itself: the only child of its keeper."""
    (program,) = psutil.Process(int((compute.folder(name) / "pid").read_text())).children()
    return program


def forked(process: psutil.Process) -> bool:
    """Whether the process's parent is a keeper."""
    parent = process.parent()
    return parent is not None and command_line(parent)[:2] == ["llmops:", "keeper"]


SUBMIT = (
    "import sys, pathlib\nfrom resources.compute.local import Job, LocalCompute\n"
    "compute = LocalCompute(pathlib.Path(sys.argv[1]), threads=1, poll_s=0.02, preload=True)\n"
    "print(compute.run(Job.model_validate_json(sys.argv[2])).model_dump_json())\n"
)


# -- the same results -----------------------------------------------------------------------------------------------


def test_training_and_evaluation_give_the_same_preloaded_or_not(
    compute: LocalCompute, evaluation: Evaluation, alone: Alone, tmp_path: Path, base: Path, data: Path
) -> None:
    """Results are equal byte for byte, with the same seeds and threads."""
    plain = LocalCompute(tmp_path / "plain", threads=1, poll_s=0.02)
    evaluation.go()
    spec = TrainSpec(
        base=str(base), data=str(data), prompt="{{ input }}", method="lora", lora={"r": 4, "alpha": 8, "dropout": 0.1},
        batch_size=4, max_steps=3,
    )  # fmt: skip
    training = Job(name="train-1", program="train", spec=spec.model_dump(mode="json"))
    trained = {}
    for side in (compute, plain):
        done = side.run(training)
        trained[side] = {p.name: p.read_bytes() for p in sorted(done.artifact.iterdir())}
        assert done.read(TrainResult).steps == 3
    assert trained[compute] == trained[plain] and "adapter_model.safetensors" in trained[plain]
    one, two = compute.run(evaluation.job()).read(EvaluateResult), alone.result
    assert one.model_copy(update={"tokens_per_s": 0.0}) == two.model_copy(update={"tokens_per_s": 0.0})
    for side, preloaded in ((compute, True), (plain, False)):
        assert "preload" not in (side.folder("train-1") / "log.txt").read_text()
        assert bool(servers(side.jobs.parent)) == preloaded
    assert "preload" not in (compute.folder("evaluate-1") / "log.txt").read_text()


def test_a_projects_own_tests_never_run_beside_preloaded_libraries(tmp_path: Path) -> None:
    """And a request that runs only these tests preloads nothing."""
    compute = LocalCompute(tmp_path / "home", threads=1, poll_s=0.02, preload=True)
    (tmp_path / "tree").mkdir()
    code = "import sys\n\ndef test_it():\n    assert 'torch' not in sys.modules\n"
    (tmp_path / "tree/test_it.py").write_text(code)
    done = compute.run(Job(name="ci-1", program="ci", spec={"work_tree": str(tmp_path / "tree"), "ruff": False}))
    assert done.read(CiResult).checks[-1].summary == "1 passed"
    assert servers(tmp_path / "home") == []


# -- how programs end -----------------------------------------------------------------------------------------------


def test_bad_input_is_distinguished_from_a_fault(compute: LocalCompute, evaluation: Evaluation) -> None:
    with pytest.raises(BadInput, match="/nowhere"):
        compute.run(evaluation.job(base="/nowhere", metrics=()))
    with pytest.raises(BadInput, match="is not a EvaluateSpec"):
        compute.run(Job(name="evaluate-2", program="evaluate", spec={}))


def test_a_killed_program_names_the_signal(
    compute: LocalCompute, evaluation: Evaluation, pool: ThreadPoolExecutor
) -> None:
    running = pool.submit(compute.run, evaluation.job())
    wait_for("its start", lambda: evaluation.began)
    program = program_of(compute)
    assert forked(program) and evaluation.began
    assert program in psutil.Process(evaluation.began["pid"]).parents()
    program.kill()
    with pytest.raises(ProgramError, match=r"evaluate was killed by SIGKILL"):
        running.result(CEILING_S)


def test_a_cancelled_job_ends_with_everything_that_it_started(
    compute: LocalCompute, evaluation: Evaluation, pool: ThreadPoolExecutor
) -> None:
    running = pool.submit(compute.run, evaluation.job())
    wait_for("its start", lambda: evaluation.began)
    assert evaluation.began
    assert compute.cancel("evaluate-1")
    with pytest.raises(ProgramError, match="SIGTERM"):
        running.result(CEILING_S)
    child = evaluation.began["child"]
    wait_for("its end", lambda: not psutil.pid_exists(child))
    assert not compute.cancel("evaluate-1") and "evaluate-1" in compute.ended()


# -- at most once ----------------------------------------------------------------------------------------------------


def test_a_program_whose_submitter_was_killed_keeps_running_and_is_adopted(
    compute: LocalCompute,
    evaluation: Evaluation,
    python: Callable[..., "subprocess.Popen[str]"],
    pool: ThreadPoolExecutor,
) -> None:
    job = evaluation.job()
    submitter = python(SUBMIT, str(compute.jobs.parent), job.model_dump_json())
    wait_for("its start", lambda: evaluation.began)
    submitter.kill()
    submitter.wait()
    program = program_of(compute)
    adopted = pool.submit(compute.run, job)
    evaluation.go()
    done = adopted.result(CEILING_S)
    assert done.adopted
    assert not program.is_running(), "the lock is the program's alone: what is adopted is over when it is"


def test_when_two_processes_submit_the_same_job_one_runs_it_and_two_jobs_run_beside_each_other(
    compute: LocalCompute,
    evaluation: Evaluation,
    data: Path,
    base: Path,
    tmp_path: Path,
    python: Callable[..., "subprocess.Popen[str]"],
) -> None:
    other = Evaluation(tmp_path / "other", data, base)
    jobs = [evaluation.job(), evaluation.job(), other.job("evaluate-2")]
    submitters = [python(SUBMIT, str(compute.jobs.parent), job.model_dump_json()) for job in jobs]
    wait_for("its start", lambda: evaluation.began and other.began)
    assert evaluation.began and other.began and evaluation.began["random"] != other.began["random"]
    evaluation.go()
    other.go()
    done = [Finished.model_validate_json(p.communicate(timeout=CEILING_S)[0]) for p in submitters]
    assert sorted(d.adopted for d in done[:2]) == [False, True] and not done[2].adopted


# -- environment ----------------------------------------------------------------------------------------------------


def test_neither_program_nor_server_sees_the_locations_secrets(
    compute: LocalCompute, evaluation: Evaluation, pool: ThreadPoolExecutor
) -> None:
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "s3cret" and os.environ["LLMOPS_HOME"] == "/s3cret"
    running = pool.submit(compute.run, evaluation.job())
    wait_for("its start", lambda: evaluation.began)
    assert evaluation.began and "s3cret" not in json.dumps(evaluation.began)
    assert evaluation.began["environment"]["OMP_NUM_THREADS"] == "1"
    started = servers(compute.jobs.parent)
    assert started and not any("s3cret" in "".join(server.environ().values()) for server in started)
    evaluation.go()
    assert running.result(CEILING_S).read(EvaluateResult).rows == 4


# -- without a server -------------------------------------------------------------------------------------------------


def test_a_killed_server_loses_no_program(
    compute: LocalCompute, evaluation: Evaluation, pool: ThreadPoolExecutor
) -> None:
    running = pool.submit(compute.run, evaluation.job())
    wait_for("its start", lambda: evaluation.began)
    for process in servers(compute.jobs.parent):
        process.kill()
    assert program_of(compute).is_running()
    evaluation.go()
    done = running.result(CEILING_S)
    assert not done.adopted and done.read(EvaluateResult).rows == 4


def test_without_a_server_the_program_runs_all_the_same_and_its_log_says_why(alone: Alone) -> None:
    assert alone.result.rows == 4
    assert "starts without preloading" in alone.log and "preloaded" in alone.log and "File exists" in alone.log
