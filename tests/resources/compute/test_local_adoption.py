"""A job runs at most once: others adopt it, also after a kill. Real processes."""

import contextlib
import fcntl
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from llmops_assets.programs.runtime.specs import CiResult
from resources.compute.interface import Finished
from resources.compute.local import LocalCompute
from tests.resources.compute.jobs import SUBMIT, Tree, alive, program_of
from tests.support.waiting import CEILING_S, wait_for


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
                time.sleep(0.0005)
            time.sleep(0.001)

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
