"""Python environments for the tests of projects, built by uv from their lock files, and cached by digest.

A lock is the word of a project that is not trusted, and building happens outside the isolation, with our network. So
only wheels are installed, whose installation runs no code, each with a digest, from our own index: a lock names
packages, versions and digests, and never an address, a path or an option of the installer.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llmops_assets.config.documents import DocumentError, read_text
from llmops_assets.config.ignore_patterns import ignoring
from llmops_assets.domain.keys import digest
from llmops_assets.domain.models import Frozen
from llmops_assets.machine.locks import alone, sharing
from llmops_assets.machine.redaction import redacted

ENVIRONMENTS = "ci-environments"
"""Their folder in the home."""
UV_LOCK, REQUIREMENTS = "uv.lock", "requirements.txt"
LOCK_BYTES = 16 * 2**20
BUILD_S = 1800.0
_READ_S = 60.0
_FORMAT = 1
_MARKER = ".complete"
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[A-Za-z0-9._, -]*\])?\s*==\s*[A-Za-z0-9.!+_-]+\s*(;[^#\\]*?)?"
    r"(\s+--hash=sha256:[0-9a-f]{64})+"
)


class NotBuilt(Exception):
    """There is no environment, and why; `file` and `line` are the project's, if one is at fault."""

    def __init__(self, why: str, file: str = "", line: int | None = None):
        super().__init__(why)
        self.why, self.file, self.line = why, file, line


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
            NotBuilt: it has one that cannot be used, or the packages could not be fetched.
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
                    _build(there, text, lock, self.cache)
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


def requirements_of(tree: Path, ignore: Sequence[str] = ()) -> tuple[str, str, int] | None:
    """The file, and its requirements as text for uv, and their number; None if the project has no lock.

    Raises:
        NotBuilt: it has one that cannot be used.
    """
    for name in (UV_LOCK, REQUIREMENTS):
        if not (tree / name).exists() or ignoring(ignore).match_file(name):
            continue
        try:
            text = read_text(tree / name, LOCK_BYTES)
        except DocumentError as error:
            raise NotBuilt(f"{name}: {error}", name) from error
        if name == UV_LOCK:
            text = _exported(tree, text)
        elif "--hash=" not in text:
            return None
        return name, *_checked(text, name)
    return None


def _exported(tree: Path, lock: str) -> str:
    """A uv.lock as requirements. uv reads copies of two files, and resolves, fetches and builds nothing."""
    try:
        project = read_text(tree / "pyproject.toml", LOCK_BYTES)
    except DocumentError as error:
        raise NotBuilt(f"{UV_LOCK} needs a pyproject.toml: {error}", UV_LOCK) from error
    with tempfile.TemporaryDirectory(prefix="llmops-lock-") as copy:
        (Path(copy) / "pyproject.toml").write_text(project, encoding="utf-8")
        (Path(copy) / UV_LOCK).write_text(lock, encoding="utf-8")
        words = ("export", "--frozen", "--offline", "--no-emit-workspace", "--no-header", "--no-annotate")
        return _uv([*words, "--python", sys.executable], Path(copy), UV_LOCK, _READ_S, environment={})


def _checked(text: str, name: str) -> tuple[str, int]:
    """The requirements, one a line, each of which has version and digests and nothing else.

    Raises:
        NotBuilt: one is something else, such as an address, a path or an option.
    """
    lines: list[str] = []
    logical, began = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        plain = re.sub(r"(^|\s)#.*", "", line).strip()
        began = began if logical else number
        logical += " " + plain.removesuffix("\\").strip()
        if plain.endswith("\\"):
            continue
        requirement, logical = logical.strip(), ""
        if not requirement:
            continue
        if not _REQUIREMENT.fullmatch(requirement):
            shown = requirement.split(" --hash")[0][:100]
            raise NotBuilt(
                f"{shown!r} is no package with a version (==) and digests (--hash=sha256:…); addresses, paths and "
                "options of the installer are not used",
                name,
                began if name != UV_LOCK else None,
            )
        lines.append(requirement)
    if logical.strip() or not lines:
        raise NotBuilt("it names no package" if not lines else "its last line is cut off", name)
    return "\n".join(lines) + "\n", len(lines)


def _build(there: Path, requirements: str, lock: str, cache: Path) -> None:
    """Builds an environment; its marker is written last."""
    shutil.rmtree(there, ignore_errors=True)
    there.parent.mkdir(parents=True, exist_ok=True)
    _uv(["venv", "--python", sys.executable, str(there)], there.parent, lock, _READ_S)
    listed = there / "requirements.txt"
    listed.write_text(requirements, encoding="utf-8")
    words = ["pip", "install", "--python", str(python_of(there)), "--cache-dir", str(cache)]
    only = ("--require-hashes", "--no-deps", "--only-binary", ":all:")
    _uv([*words, *only, "--requirements", str(listed)], there, lock, BUILD_S)
    (there / _MARKER).touch()


def _uv(words: list[str], folder: Path, lock: str, seconds: float, environment: dict[str, str] | None = None) -> str:
    """Runs uv, without the configuration files that it would find in folders.

    Args:
        environment: instead of ours, which may name an index and its credentials.

    Raises:
        NotBuilt: it failed.
    """
    from uv import find_uv_bin

    command = [find_uv_bin(), "--no-config", "--quiet", "--no-progress", "--no-python-downloads", *words]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise NotBuilt(f"uv did not end within {seconds:g} s", lock) from None
    if done.returncode:
        said = " ".join(redacted(done.stderr).split())
        raise NotBuilt(f"uv {words[0]} failed: {said[-600:] or f'exit code {done.returncode}'}", lock)
    return done.stdout
