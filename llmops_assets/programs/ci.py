"""python -m llmops_assets.programs.ci --spec SPEC.json --output DIR

Lints and tests a project's own code in its work tree, and reports the checks. The project's code runs in child
processes that end with this one. Validating llmops.yaml and its prompts belongs in the stage: it needs no process.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import FrameType
from xml.etree import ElementTree

from llmops_assets.domain.records import Check
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CiResult, CiSpec

TAIL_LINES, TAIL_CHARACTERS = 60, 6000
PYTEST_FILES = ("pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "setup.cfg")
NO_TESTS_COLLECTED = 5  # pytest's exit code


def check(spec: CiSpec, job: ProgramRun) -> CiResult:
    """The whole program.

    Raises:
        BadInput: the work tree does not exist.
    """
    tree = Path(spec.work_tree)
    if not tree.is_dir():
        raise BadInput("the work tree does not exist", spec.work_tree)
    checks = []
    if spec.ruff:
        job.progress("ruff")
        checks.append(_ruff(tree, job.output, spec.timeout_s))
    if spec.tests:
        job.progress("pytest")
        checks.append(_pytest(tree, job.output, spec.timeout_s))
    return CiResult(checks=tuple(checks))


def _ruff(tree: Path, output: Path, timeout_s: float) -> Check:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise"]
    if not _configures(tree, "ruff", ("ruff.toml", ".ruff.toml")):
        command.append("--isolated")  # else ruff uses the configuration of a parent folder
    code, text, seconds = _run([*command, "."], tree, output / "ruff.log", timeout_s)
    if code is None:
        return _too_slow("ruff", timeout_s, text, seconds)
    if code == 0:
        found = "no Python files" if "No Python files" in text else "no problems"
        return Check(name="ruff", passed=True, summary=found, seconds=seconds)
    count = re.search(r"Found (\d+) error", text)
    summary = f"{count[1]} problems" if count else f"ruff failed with exit code {code}"
    return Check(name="ruff", passed=False, summary=summary, detail=text, seconds=seconds)


def _pytest(tree: Path, output: Path, timeout_s: float) -> Check:
    report = output / "junit.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}", "--color=no"]
    command += [f"--rootdir={tree}", f"--confcutdir={tree}"]
    if not _configures(tree, "pytest", PYTEST_FILES):
        command += ["-c", os.devnull]  # else pytest uses the configuration of a parent folder
    code, text, seconds = _run([*command, "."], tree, output / "pytest.log", timeout_s)
    if code is None:
        return _too_slow("tests", timeout_s, text, seconds)
    if code == NO_TESTS_COLLECTED:
        return Check(name="tests", passed=True, summary="the project has no tests", severity="warn", seconds=seconds)
    counts = _counts(report)
    summary = ", ".join(f"{n} {what}" for what, n in counts.items() if n) or f"pytest failed with exit code {code}"
    return Check(name="tests", passed=code == 0, summary=summary, detail=text, seconds=seconds)


def _too_slow(name: str, timeout_s: float, text: str, seconds: float) -> Check:
    return Check(name=name, passed=False, summary=f"did not end within {timeout_s:g} s", detail=text, seconds=seconds)


def _counts(report: Path) -> dict[str, int]:
    try:
        suites = list(ElementTree.parse(report).iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        return {}
    total, failed, errors, skipped = (
        sum(int(s.get(name, 0)) for s in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    return {"passed": total - failed - errors - skipped, "failed": failed, "errors": errors, "skipped": skipped}


def _configures(tree: Path, tool: str, files: tuple[str, ...]) -> bool:
    if any((tree / name).exists() for name in files):
        return True
    try:
        return tool in tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError):
        return False


def _run(command: list[str], tree: Path, log: Path, timeout_s: float) -> tuple[int | None, str, float]:
    """Exit code (None: timeout), the end of the output, and seconds.

    The output goes to a file: a process that the project's tests leave behind would keep a pipe open.
    """
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}
    began = time.monotonic()
    with log.open("wb") as file:
        child = subprocess.Popen(
            command,
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        previous = signal.signal(signal.SIGTERM, _ender(child.pid))
        try:
            code: int | None = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(child.pid)
            child.wait()
            signal.signal(signal.SIGTERM, previous)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    return code, "\n".join(lines)[-TAIL_CHARACTERS:], time.monotonic() - began


def _ender(group: int) -> "signal._HANDLER":
    def end(signum: int, frame: FrameType | None) -> None:
        _end_group(group)
        sys.exit(128 + signum)

    return end


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the group has no process left
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    run("ci", CiSpec, check)
