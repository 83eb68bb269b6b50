"""How programs end, and what they see of the location. Real processes."""

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.programs.runtime.entry import MESSAGES
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CiResult
from resources.compute.interface import Job, ProgramError, hardware_class
from resources.compute.local import LocalCompute
from tests.resources.compute.jobs import SUBMIT, Tree, alive, program_of
from tests.support.waiting import CEILING_S, wait_for


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
