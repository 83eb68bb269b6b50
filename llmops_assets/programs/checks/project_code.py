"""A project's own code: a private copy of its files, in which commands run apart from everything else.

Decides what such code may see and use. The walls themselves are `llmops_assets.machine.isolation`.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from llmops_assets.catalog import IMAGE_BUILDERS
from llmops_assets.machine import isolation
from llmops_assets.machine.isolation import Ended
from llmops_assets.programs.images.interface import INSIDE, ImageBuilder, RunRequest
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CodeRules, RunInImage

TAIL_LINES, TAIL_CHARACTERS = 60, 6000
ISOLATED = "bubblewrap: its own user, process, IPC and network namespaces, a read-only system, a private copy"
_NEW = 128
"""libgit2's status of a file that Git would add."""
_PASSED_ON = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS",
              "OMP_WAIT_POLICY", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE",
              "HF_EVALUATE_OFFLINE", "TOKENIZERS_PARALLELISM")  # fmt: skip


def not_isolated(rules: CodeRules) -> str | None:
    """Why the code will not be isolated; None if it will be.

    Raises:
        BadInput: it must be, and cannot; nothing of the project has run.
    """
    if rules.isolation == "off":
        return "compute.isolation is off"
    problem = isolation.problem()
    if problem is not None and rules.isolation == "required":
        raise BadInput(f"project code is not run without isolation: {problem}", "compute.isolation: required")
    return problem


def files_in_git(tree: Path, untracked: bool = False) -> list[str]:
    """The files of a checked out revision. Data that DVC put beside them is not among them; no key covers it.

    Args:
        untracked: also the files that Git would add.
    """
    import pygit2

    if found := pygit2.discover_repository(str(tree)):
        repository = pygit2.Repository(found)
        inside = tree.resolve().relative_to(Path(repository.workdir).resolve()).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        paths = {entry.path for entry in repository.index}
        if untracked:
            paths |= {path for path, state in repository.status(untracked_files="all").items() if state & _NEW}
        if names := sorted(path.removeprefix(prefix) for path in paths if path.startswith(prefix)):
            return names
    return sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file() or p.is_symlink())


class ProjectCode:
    """A private copy of some files of a project, and a way to run commands in it."""

    def __init__(self, folder: Path, rules: CodeRules):
        self.folder, self.rules = folder, rules
        self.tree, self.out = folder / "tree", folder / "out"
        self.isolated = rules.image is not None or not_isolated(rules) is None
        self.readable: tuple[Path, ...] = ()
        """Further folders that its commands see."""

    @property
    def python(self) -> str:
        """The interpreter of its commands."""
        return sys.executable if self.rules.image is None else "python3"

    def seen(self, path: Path) -> str:
        """The name under which its commands see one of its files."""
        return str(path if self.rules.image is None else INSIDE / path.relative_to(self.folder))

    def bring(self, file: Path) -> str:
        """The name under which its commands see a file of ours; in an image, a copy of it."""
        if self.rules.image is None:
            return str(file)
        shutil.copyfile(file, self.folder / file.name)
        return self.seen(self.folder / file.name)

    def run(
        self, command: list[str], log: Path, seconds: float, given: bytes = b"", more: Mapping[str, str] | None = None
    ) -> Ended:
        """Runs a command in the copy; see `isolation.run_apart`. `more` is added to its environment."""
        if self.rules.image is not None:
            return self._run_in_image(self.rules.image, command, log, seconds, given, more or {})
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {"HOME": str(self.out), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        environment |= more or {}
        environment["TMPDIR"] = "/tmp" if self.isolated else str(self.out)
        limits = isolation.Limits(seconds=seconds, memory=self.rules.memory, processes=self.rules.processes)
        return isolation.run_apart(
            command,
            folder=self.tree,
            writable=(self.tree, self.out),
            log=log,
            environment=environment,
            limits=limits,
            isolated=self.isolated,
            given=given,
            readable=self.readable,
        )

    def _run_in_image(
        self, image: RunInImage, command: list[str], log: Path, seconds: float, given: bytes, more: Mapping[str, str]
    ) -> Ended:
        """As `run`, in a container of the project's image; what it wrote to `out` is there afterwards."""
        environment = {"HOME": self.seen(self.out), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **more}
        limits = isolation.Limits(seconds=seconds, memory=self.rules.memory, processes=self.rules.processes)
        with TemporaryDirectory(prefix="llmops-login-") as login:
            builder: ImageBuilder = IMAGE_BUILDERS[image.builder.builder].load()(image.builder, Path(login) / "docker")
            try:
                return builder.run(image.reference, RunRequest(self.folder, command, environment, limits, log, given))
            finally:
                builder.close()

    def why_ended(self, ended: Ended, seconds: float) -> str | None:
        """The limit that ended a command, in words."""
        if ended.limit is None:
            return None
        return {
            "seconds": f"did not end within {seconds:g} s",
            "memory": f"used more than {self.rules.memory / 2**30:.3g} GiB of memory (compute.project_memory)",
            "processes": f"had more than {self.rules.processes} processes (compute.project_processes)",
        }[ended.limit]


@contextmanager
def private_copy(folder: Path, tree: Path, names: Iterable[str], rules: CodeRules) -> Iterator[ProjectCode]:
    """Copies files of a project, and deletes the copy and what was written there afterwards.

    Raises:
        BadInput: see `not_isolated`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    code = ProjectCode(folder, rules)
    code.tree.mkdir(parents=True)
    code.out.mkdir()
    try:
        for name in names:
            to = code.tree / name
            to.parent.mkdir(parents=True, exist_ok=True)
            if (tree / name).is_symlink() or (tree / name).is_file():
                shutil.copy2(tree / name, to, follow_symlinks=False)
        yield code
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tail(log: Path) -> str:
    """The end of a log, for a report."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join(lines)[-TAIL_CHARACTERS:]
