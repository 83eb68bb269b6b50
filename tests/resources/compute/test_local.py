"""Programs outlive the run that started them, run once per job, and see none of our secrets.

The program is `ci` on a work tree of two files: its test writes that it has started, and waits for a file.
"""

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmops_assets.machine.processes import is_alive
from llmops_assets.programs.runtime.entry import MESSAGES
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CiResult, CiSpec, CodeRules
from resources.compute.interface import Finished, Job, ProgramError, TimeLimitReached, hardware_class
from resources.compute.local import LocalCompute
from tests.support.waiting import CEILING_S, wait_for

TEST = """\
import json, os, pathlib, time
HERE = pathlib.Path(FOLDER)

def test_it():
    with (HERE / "began").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    (HERE / "environment.json").write_text(json.dumps(dict(os.environ)))
    while not (HERE / "go").exists():
        time.sleep(0.02)
"""


class Tree:
    """A project whose only test waits for a file."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        (folder / "test_it.py").write_text(TEST.replace("FOLDER", repr(str(folder))))

    def go(self) -> None:
        (self.folder / "go").touch()

    @property
    def began(self) -> list[int]:
        """Process ids of the tests that have started."""
        file = self.folder / "began"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def job(self, name: str = "ci-1", **change: Any) -> Job:
        # Not isolated, and on its own copy of the tree: it is watched and continued by files of the original.
        spec = CiSpec(work_tree=str(self.folder), ruff=False, code=CodeRules(isolation="off"))
        return Job(name=name, program="ci", spec=spec.model_copy(update=change).model_dump(mode="json"))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree")


@pytest.fixture
def compute(tmp_path: Path) -> Iterator[LocalCompute]:
    compute = LocalCompute(tmp_path / "home", threads=1, poll_s=0.02)
    yield compute
    compute.cancel_all()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


SUBMIT = (
    "import sys, pathlib\nfrom resources.compute.local import Job, LocalCompute\n"
    "compute = LocalCompute(pathlib.Path(sys.argv[1]), poll_s=0.02)\n"
    "print(compute.run(Job.model_validate_json(sys.argv[2])).model_dump_json())\n"
)


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return is_alive(psutil.Process(pid))
    return False


def program_of(compute: LocalCompute, name: str = "ci-1") -> int:
    return int((compute.folder(name) / "pid").read_text())


def test_only_the_work_under_the_given_keys_is_ended(
    compute: LocalCompute, tree: Tree, pool: ThreadPoolExecutor
) -> None:
    """Cancelling one project once ended the programs of all other projects."""
    running = pool.submit(compute.run, tree.job(name="ci-0123456789ab"))
    wait_for("its tests", lambda: tree.began)
    assert compute.cancel_work(["f" * 64]) == []
    assert compute.cancel_work(["f" * 64, "0123456789abcdef" * 4]) == ["ci-0123456789ab"]
    with pytest.raises(ProgramError):
        running.result(CEILING_S)


# -- how programs end -----------------------------------------------------------------------------------------------


def test_a_result_is_read_and_its_progress_reported(compute: LocalCompute, tree: Tree) -> None:
    tree.go()
    lines: list[dict[str, Any]] = []
    done = compute.run(tree.job(), lines.append)
    check = done.read(CiResult).checks[-1]
    assert check.passed and check.summary == "1 passed" and not done.adopted
    assert [line["phase"] for line in lines] == ["tests"]
    assert done.artifact == compute.folder("ci-1") / "artifact"


def test_bad_input_is_distinguished_from_a_fault(compute: LocalCompute, tree: Tree) -> None:
    """A retry would not help: bad input ends the request instead of starting the next generation."""
    with pytest.raises(BadInput, match="/nowhere: the work tree does not exist"):
        compute.run(tree.job(work_tree="/nowhere"))
    with pytest.raises(BadInput, match="is not a CiSpec: work_tree"):
        compute.run(Job(name="ci-2", program="ci", spec={}))


def test_after_bad_input_was_corrected_the_old_error_is_not_repeated(compute: LocalCompute, tree: Tree) -> None:
    tree.go()
    with pytest.raises(BadInput):
        compute.run(tree.job(work_tree="/nowhere"))
    assert compute.run(tree.job()).read(CiResult).checks[-1].passed


def test_a_killed_program_names_the_signal(compute: LocalCompute, tree: Tree, pool: ThreadPoolExecutor) -> None:
    running = pool.submit(compute.run, tree.job())
    wait_for("its tests", lambda: tree.began)
    os.kill(program_of(compute), signal.SIGKILL)
    with pytest.raises(
        ProgramError, match=r"ci was killed by SIGKILL \(the kernel's out-of-memory killer uses it too\)"
    ):
        running.result(CEILING_S)
    wait_for("the end of its tests", lambda: not any(alive(pid) for pid in tree.began))


def test_a_program_that_fails_shows_the_end_of_its_log(compute: LocalCompute) -> None:
    with pytest.raises(ProgramError, match=r"ended with exit code 1; its log is .*(?s:.*)No module named"):
        compute.run(Job(name="x", program="no_such_program", spec={}))


def test_a_line_of_progress_that_a_kill_cut_short_does_not_stop_the_next_try(compute: LocalCompute, tree: Tree) -> None:
    """The next attempt appends to the same file; the truncated line in the middle made every later run fail."""
    tree.go()
    compute.folder("ci-1").mkdir(parents=True)
    message = {"__dagster_pipes_version": "0.1", "method": "report_custom_message"}
    whole = json.dumps({**message, "params": {"payload": {"phase": "ruff"}}})
    (compute.folder("ci-1") / MESSAGES).write_text(f"{whole}\n{whole[:60]}{whole[:60]}\n")
    lines: list[dict[str, Any]] = []
    compute.run(tree.job(), lines.append)
    assert [line["phase"] for line in lines] == ["ruff", "tests"]


OWN_PROGRAM = """\
import argparse, json, pathlib
from dagster_pipes import open_dagster_pipes

parser = argparse.ArgumentParser()
parser.add_argument("--spec", type=pathlib.Path)
parser.add_argument("--output", type=pathlib.Path)
arguments = parser.parse_args()
spec = json.loads(arguments.spec.read_text())
with open_dagster_pipes() as pipes:
    pipes.report_custom_message({"phase": "train", "step": 1, "total": spec["steps"]})
    pipes.log.info("half of it is done")
    pipes.report_asset_materialization(metadata={"loss": 0.5, "card": {"raw_value": "# A card", "type": "md"}})
    (arguments.output / "result.json").write_text(json.dumps({"steps": spec["steps"]}))
    while not pathlib.Path(spec["go"]).exists():
        pass
"""


def test_a_foreign_program_reports_progress_and_metadata_by_dagster_pipes_also_after_adoption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: Callable[..., Any]
) -> None:
    """The program can be any importable module: it needs only Dagster Pipes and our two command-line arguments."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/__init__.py").touch()
    (tmp_path / "acme/tune.py").write_text(OWN_PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    compute = LocalCompute(tmp_path / "home")
    job = Job(name="tune-1", program="acme.tune", spec={"steps": 8, "go": str(tmp_path / "go")}, asset="zoo/checkpoint")
    submitter = python(SUBMIT, str(tmp_path / "home"), job.model_dump_json())
    wait_for("its result", lambda: (compute.folder(job.name) / "result.json").exists())
    submitter.kill()
    lines: list[dict[str, Any]] = []
    with ThreadPoolExecutor(1) as pool:
        adopting = pool.submit(compute.run, job, lines.append)
        wait_for("what it says", lambda: len(lines) == 2)
        (tmp_path / "go").touch()
        done = adopting.result(CEILING_S)
    assert lines == [{"phase": "train", "step": 1, "total": 8}, {"message": "half of it is done"}]
    assert done.adopted and done.result == {"steps": 8}
    assert done.metadata["loss"]["raw_value"] == 0.5 and done.metadata["card"] == {
        "raw_value": "# A card",
        "type": "md",
    }


# -- at most once ----------------------------------------------------------------------------------------------------


def test_when_two_processes_submit_the_same_job_one_runs_it_and_the_other_adopts_it(
    compute: LocalCompute, tree: Tree, python: Callable[..., Any]
) -> None:
    home, job = str(compute.jobs.parent), tree.job().model_dump_json()
    processes = [python(SUBMIT, home, job) for _ in range(3)]
    wait_for("its tests", lambda: tree.began)
    tree.go()
    done = [Finished.model_validate_json(p.communicate(timeout=CEILING_S)[0]) for p in processes]
    assert sorted(d.adopted for d in done) == [False, True, True]
    assert len(tree.began) == 1
    assert len({json.dumps(d.result) for d in done}) == 1


def test_a_program_whose_submitter_was_killed_keeps_running_and_is_adopted(
    compute: LocalCompute, tree: Tree, python: Callable[..., Any], pool: ThreadPoolExecutor
) -> None:
    submitter = python(SUBMIT, str(compute.jobs.parent), tree.job().model_dump_json())
    wait_for("its tests", lambda: tree.began)
    submitter.kill()
    submitter.wait()
    assert alive(program_of(compute)) and alive(tree.began[0])
    adopted = pool.submit(compute.run, tree.job())
    tree.go()
    done = adopted.result(CEILING_S)
    assert done.adopted and done.read(CiResult).checks[-1].passed and len(tree.began) == 1


def test_a_program_that_ended_while_nobody_watched_is_not_run_again(
    compute: LocalCompute, tree: Tree, python: Callable[..., Any]
) -> None:
    submitter = python(SUBMIT, str(compute.jobs.parent), tree.job().model_dump_json())
    wait_for("its tests", lambda: tree.began)
    submitter.kill()
    submitter.wait()
    tree.go()
    wait_for("its end", lambda: not alive(program_of(compute)))
    assert compute.run(tree.job()).adopted and len(tree.began) == 1


def test_a_result_stays_until_it_is_cleaned_away(compute: LocalCompute, tree: Tree) -> None:
    """If a run is killed between program and commit, the next run finds the result instead of training again."""
    tree.go()
    first = compute.run(tree.job())
    again = compute.run(tree.job())
    assert (again.adopted, again.result, len(tree.began)) == (True, first.result, 1)
    compute.clean("ci-1")
    assert not compute.folder("ci-1").exists()
    assert not compute.run(tree.job()).adopted and len(tree.began) == 2


def test_a_running_job_is_not_cleaned_away(compute: LocalCompute, tree: Tree, pool: ThreadPoolExecutor) -> None:
    running = pool.submit(compute.run, tree.job())
    wait_for("its tests", lambda: tree.began)
    compute.clean("ci-1")
    tree.go()
    assert running.result(CEILING_S).read(CiResult).checks[-1].passed


def test_polling_a_job_does_not_block_its_submission(
    compute: LocalCompute, tree: Tree, pool: ThreadPoolExecutor
) -> None:
    """A check holds the lock for a moment; a submitter took it for a running program and waited for nothing."""
    lock = compute.folder("ci-1") / "alive"
    lock.parent.mkdir(parents=True)
    lock.touch()
    looking = [True]

    def look() -> None:
        while looking:
            with lock.open("r+") as file, contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    for _ in range(2):
        pool.submit(look)
    try:
        for _ in range(4):
            assert not compute.run(tree.job(tests=False)).adopted
            (lock.parent / "result.json").unlink()
    finally:
        looking.clear()


def test_heavy_programs_run_one_at_a_time(compute: LocalCompute, tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """Two concurrent trainings on one machine both run out of memory."""
    code = """
import os, pathlib, time
HERE = pathlib.Path(FOLDER)

def test_alone():
    own = HERE / f"{os.getpid()}.busy"
    own.touch()
    until = time.monotonic() + 1.5
    try:
        while time.monotonic() < until:
            assert list(HERE.glob("*.busy")) == [own]
            time.sleep(0.02)
    finally:
        own.unlink()
"""
    jobs = []
    for number in range(2):
        tree = Tree(tmp_path / f"tree{number}")
        (tree.folder / "test_it.py").write_text(code.replace("FOLDER", repr(str(tmp_path))))
        jobs.append(tree.job(f"ci-{number}").model_copy(update={"heavy": True}))
    for done in pool.map(compute.run, jobs):
        assert done.read(CiResult).checks[-1].passed


# -- programs that do not end ------------------------------------------------------------------------------------------

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


# -- cancellation ---------------------------------------------------------------------------------------------------


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


# -- environment ----------------------------------------------------------------------------------------------------


def test_the_projects_own_code_sees_none_of_the_locations_secrets(
    compute: LocalCompute, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "s3cret", "HF_TOKEN": "s3cret", "LLMOPS_HOME": "/s3cret", "DAGSTER_HOME": "/s3cret",
        "MLFLOW_TRACKING_PASSWORD": "s3cret", "GIT_ASKPASS": "s3cret", "SSH_AUTH_SOCK": "/s3cret",
        "PGPASSWORD": "s3cret",
    }  # fmt: skip
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    tree.go()
    compute.run(tree.job())
    seen = json.loads((tree.folder / "environment.json").read_text())
    assert not set(secrets) & set(seen) and "s3cret" not in json.dumps(seen)
    assert seen["HOME"].startswith(str(compute.folder("ci-1"))), "not the home in which credentials lie"
    assert seen["OMP_NUM_THREADS"] == "1" and seen["PATH"].endswith(os.environ["PATH"])


def test_the_class_of_hardware_counts_the_cores_that_this_process_may_use() -> None:
    assert hardware_class() == f"cpu-{len(os.sched_getaffinity(0))}"
