"""Python environments for the tests of projects, built by uv from their lock files, and cached by digest.

A lock comes from a project that is not trusted, and building happens outside the isolation, with our network. So only
wheels are installed, whose installation runs no code, each with a digest, from our own index: a lock names
packages, versions and digests, and never an address, a path or an option of the installer.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llmops_assets.domain.keys import digest
from llmops_assets.domain.models import Frozen
from llmops_assets.machine.locks import alone, sharing
from resources.project_environments.requirements import requirements_of
from resources.project_environments.uv import READ_S, run_uv

ENVIRONMENTS = "ci-environments"
"""Their folder in the home."""
BUILD_S = 1800.0
_FORMAT = 1
_MARKER = ".complete"


class Environment(Frozen):
    """A built environment. Its folder is read only for its users."""

    folder: Path
    lock: str
    """The project's file that it is built from."""
    digest: str
    packages: int


class ProjectEnvironments:
    """The environments of one home.

    Args:
        folder: where they are kept; made when the first one is built.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.cache = folder / "uv-cache"
        """Unpacked wheels, to which environments have hard links."""
        self.cache_lock = folder / "uv-cache.lock"

    @contextmanager
    def of(self, tree: Path, ignore: Sequence[str] = ()) -> Iterator[Environment | None]:
        """The environment of a project, kept from garbage collection meanwhile; None if the project has no lock.

        Args:
            tree: the project's files.
            ignore: patterns of files that are not seen.

        Raises:
            NotBuilt: it has one that cannot be used.
            IndexUnreachable: its packages could not be fetched now.
        """
        found = requirements_of(tree, ignore)
        if found is None:
            yield None
            return
        lock, text, count = found
        name = digest([_FORMAT, sys.version, sys.platform, text])[:32]
        there = self.folder / name
        with alone(self._lock(name)):
            if not (there / _MARKER).exists():
                with sharing(self.cache_lock):
                    self.cache.mkdir(exist_ok=True)
                    os.utime(self.cache)
                    _build(there, text, tree / lock, self.cache)
        with sharing(self._lock(name)):
            (there / _MARKER).touch()
            yield Environment(folder=there, lock=lock, digest=name, packages=count)

    def _lock(self, name: str) -> Path:
        return self.folder / f"{name}.lock"

    def unused(self, before: float) -> list[Path]:
        """The environments that nobody has used since."""
        found = (p for p in sorted(self.folder.glob("*")) if p.is_dir() and re.fullmatch(r"[0-9a-f]{32}", p.name))
        return [p for p in found if (p / _MARKER if (p / _MARKER).exists() else p).stat().st_mtime < before]

    def drop(self, there: Path, before: float) -> bool:
        """Deletes an environment that was not used since; returns whether it did."""
        with alone(self._lock(there.name)):
            if there not in self.unused(before):
                return False
            shutil.rmtree(there, ignore_errors=True)
        return True


def python_of(environment: Path) -> Path:
    return environment / "bin" / "python"


def _build(there: Path, requirements: str, lock: Path, cache: Path) -> None:
    """Builds an environment; its marker is written last."""
    shutil.rmtree(there, ignore_errors=True)
    there.parent.mkdir(parents=True, exist_ok=True)
    run_uv(["venv", "--python", sys.executable, str(there)], there.parent, lock, READ_S)
    listed = there / "requirements.txt"
    listed.write_text(requirements, encoding="utf-8")
    words = ["pip", "install", "--python", str(python_of(there)), "--cache-dir", str(cache)]
    only = ("--require-hashes", "--no-deps", "--only-binary", ":all:")
    run_uv([*words, *only, "--requirements", str(listed)], there, lock, BUILD_S)
    (there / _MARKER).touch()
