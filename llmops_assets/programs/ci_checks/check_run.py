"""What the checks share: the private copy, the spec, and the form of their results."""

import json
import os
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llmops_assets.domain.findings import Finding, in_order
from llmops_assets.domain.junit import NOT_CHECKED
from llmops_assets.domain.records import Check
from llmops_assets.machine.isolation import Ended
from llmops_assets.programs.checks.project_code import ProjectCode, tail
from llmops_assets.programs.checks.session_verdict import read_regular
from llmops_assets.programs.runtime.specs import CiSpec

DETAIL_LINES = 60
MOST_OUTPUT = 16 * 2**20
"""Bytes of a tool's output that are read."""


class CheckRun:
    """One private copy of a project, in which all checks run.

    Args:
        code: the copy.
        logs: folder for the tools' output.
        spec: the program's specification.
        artifact: folder whose files are kept.
    """

    def __init__(self, code: ProjectCode, logs: Path, spec: CiSpec, artifact: Path):
        self.code, self.logs, self.spec, self.artifact = code, logs, spec, artifact
        self.tree = code.tree
        self.python, self.environment = sys.executable, "our own environment"
        """The interpreter for the project's own code and the tools that import it, and what it is called."""
        if spec.environment is not None:
            self.python, self.environment = str(Path(spec.environment) / "bin/python"), "the project's environment"
            code.readable = (Path(spec.environment),)

    def run(self, name: str, command: Sequence[str], given: bytes = b"") -> Ended:
        """Runs a command in the copy; programs of the interpreter's environment come first on its PATH."""
        path = os.pathsep.join([str(Path(self.python).parent), os.environ.get("PATH", os.defpath)])
        return self.code.run(list(command), self.log(name), self.spec.timeout_s, given=given, more={"PATH": path})

    def has_module(self, name: str) -> bool:
        """Whether the interpreter's environment has a module; none of the project's code is imported."""
        words = [
            self.python,
            "-I",
            "-c",
            f"import importlib.util, sys; sys.exit(not importlib.util.find_spec({name!r}))",
        ]
        return self.code.run(words, self.log("module"), self.spec.timeout_s).code == 0

    def output(self, name: str) -> list[str]:
        """The lines that a tool printed, up to a limit of bytes."""
        with self.log(name).open("rb") as file:
            return file.read(MOST_OUTPUT).decode(errors="replace").splitlines()

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def limit(self, name: str, ended: Ended) -> Check | None:
        """The failed check of a tool that a limit has ended; None if none has."""
        if limit := self.code.why_ended(ended, self.spec.timeout_s):
            return Check(name=name, passed=False, summary=limit, detail=tail(self.log(name)), seconds=ended.seconds)
        return None

    def broken(self, name: str, ended: Ended, why: str) -> Check:
        """The failed check of a tool that gave no result."""
        return Check(name=name, passed=False, summary=why, detail=tail(self.log(name)), seconds=ended.seconds)

    def configures(self, tool: str, files: Sequence[str]) -> bool:
        """Whether the project has one of the files, or a table of the tool in pyproject.toml."""
        if any((self.tree / name).exists() for name in files):
            return True
        try:
            text = (self.tree / "pyproject.toml").read_text(encoding="utf-8")
            return tool in tomllib.loads(text).get("tool", {})
        except (OSError, ValueError):
            return False

    def name_of(self, path: str) -> str:
        """A path that a tool names, within the project; empty if it is outside."""
        found = Path(os.path.normpath(path))
        if not found.is_absolute():
            return "" if found.parts[:1] == ("..",) else found.as_posix()
        return found.relative_to(self.tree).as_posix() if found.is_relative_to(self.tree) else ""


def result_of(path: Path) -> Any:
    """The JSON that a tool wrote; None if there is none. The file may be anything that a project's code left there."""
    try:
        return json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None


def problems(name: str, found: Sequence[Finding], seconds: float = 0.0, passed: str = "no problems") -> Check:
    """The check with these findings: it fails if one is an error."""
    shown, omitted = in_order(found)
    errors = sum(f.severity == "error" for f in found)
    warnings = len(found) - errors
    counts = [f"{n} {what}" for n, what in ((errors, "problems"), (warnings, "warnings")) if n]
    return Check(
        name=name,
        passed=not errors,
        summary=", ".join(counts) or passed,
        detail=listed(shown),
        seconds=seconds,
        findings=shown,
        omitted=omitted,
    )


def listed(found: Sequence[Finding]) -> str:
    """The first findings, a line each."""
    lines = [f.text for f in found[:DETAIL_LINES]]
    return "\n".join([*lines, *([f"and {len(found) - DETAIL_LINES} more"] if len(found) > DETAIL_LINES else [])])


def unchecked(name: str, why: str) -> Check:
    """A check that could not look: a warning, never a silent pass."""
    return Check(name=name, passed=True, summary=NOT_CHECKED + why, severity="warn")


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
