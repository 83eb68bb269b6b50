"""A project to run programs in, and how a job is submitted by another process."""

import contextlib
from pathlib import Path
from typing import Any

import psutil

from llmops_assets.machine.processes import is_alive
from llmops_assets.programs.runtime.specs import CiSpec, CodeRules
from resources.compute.interface import Job
from resources.compute.local import LocalCompute

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
