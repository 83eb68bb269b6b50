"""python -m llmops_assets.programs.ci --spec SPEC.json --output DIR

Lints and tests a project's own code in a private copy of its revision, isolated where the machine allows it, and
reports the checks. Validating llmops.yaml and its prompts belongs in the stage: it needs no process.
"""

import os
import re
import secrets
import sys
import tomllib
from pathlib import Path

from llmops_assets.domain.records import Check
from llmops_assets.programs.checks.project_code import (
    ISOLATED,
    ProjectCode,
    files_in_git,
    not_isolated,
    private_copy,
    tail,
)
from llmops_assets.programs.checks.pytest_session import __file__ as PYTEST_SESSION
from llmops_assets.programs.checks.session_verdict import files_with_tests, judge_session, read_session
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CiResult, CiSpec, CodeRules

PYTEST_FILES = ("pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "setup.cfg")


def check(spec: CiSpec, job: ProgramRun) -> CiResult:
    """The whole program.

    Raises:
        BadInput: the work tree does not exist, or isolation is required and cannot be had.
    """
    tree = Path(spec.work_tree)
    if not tree.is_dir():
        raise BadInput("the work tree does not exist", spec.work_tree)
    if not (spec.ruff or spec.tests):
        return CiResult(checks=())
    checks = [_isolation(spec.code)]
    with private_copy(job.output / "project", tree, files_in_git(tree), spec.code) as code:
        if spec.ruff:
            job.progress("ruff")
            checks.append(_ruff(code, job.output, spec.timeout_s))
        if spec.tests:
            job.progress("pytest")
            checks.append(_pytest(code, job.output, spec))
    return CiResult(checks=tuple(checks))


def _isolation(rules: CodeRules) -> Check:
    why = not_isolated(rules)
    return Check(
        name="isolation",
        passed=why is None,
        summary=ISOLATED if why is None else f"not isolated: {why}",
        severity="warn",
    )


def _ruff(code: ProjectCode, output: Path, timeout_s: float) -> Check:
    command = [sys.executable, "-P", "-m", "ruff", "check", "--no-cache", "--output-format=concise"]
    if not _configures(code.tree, "ruff", ("ruff.toml", ".ruff.toml")):
        command.append("--isolated")  # else ruff uses the configuration of a parent folder
    ended = code.run([*command, "."], output / "ruff.log", timeout_s)
    text = tail(output / "ruff.log")
    if limit := code.why_ended(ended, timeout_s):
        return Check(name="ruff", passed=False, summary=limit, detail=text, seconds=ended.seconds)
    if ended.code == 0:
        found = "no Python files" if "No Python files" in text else "no problems"
        return Check(name="ruff", passed=True, summary=found, seconds=ended.seconds)
    count = re.search(r"Found (\d+) error", text)
    summary = f"{count[1]} problems" if count else f"ruff failed with exit code {ended.code}"
    return Check(name="ruff", passed=False, summary=summary, detail=text, seconds=ended.seconds)


def _pytest(code: ProjectCode, output: Path, spec: CiSpec) -> Check:
    session, junit, log = code.out / "session.json", code.out / "junit.xml", output / "pytest.log"
    secret, with_tests = secrets.token_bytes(32), files_with_tests(code.tree)
    command = [sys.executable, PYTEST_SESSION, str(session), str(junit), "-p", "no:cacheprovider"]
    command += ["--color=no", f"--rootdir={code.tree}", f"--confcutdir={code.tree}"]
    if not _configures(code.tree, "pytest", PYTEST_FILES):
        command += ["-c", os.devnull]  # else pytest uses the configuration of a parent folder
    ended = code.run([*command, "."], log, spec.timeout_s, given=secret)
    if limit := code.why_ended(ended, spec.timeout_s):
        return Check(name="tests", passed=False, summary=limit, detail=tail(log), seconds=ended.seconds)
    found = judge_session(ended.code, read_session(session, secret), junit, spec.tests_required, with_tests)
    if junit.is_file() and not junit.is_symlink():
        (output / "junit.xml").write_bytes(junit.read_bytes())
    return Check(
        name="tests",
        passed=found.passed,
        summary=found.summary,
        detail="" if found.warn else tail(log),
        severity="warn" if found.warn else "error",
        seconds=ended.seconds,
    )


def _configures(tree: Path, tool: str, files: tuple[str, ...]) -> bool:
    if any((tree / name).exists() for name in files):
        return True
    try:
        return tool in tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    run("ci", CiSpec, check)
