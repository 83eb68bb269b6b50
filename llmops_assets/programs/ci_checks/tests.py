"""The project's own tests: pytest, whose session must come to its own end."""

import os
import secrets
import sys

from llmops_assets.domain.findings import Finding, finding, in_order
from llmops_assets.domain.records import Check
from llmops_assets.programs.checks.project_code import tail
from llmops_assets.programs.checks.pytest_session import __file__ as PYTEST_SESSION
from llmops_assets.programs.checks.session_verdict import (
    Failure,
    files_with_tests,
    judge_session,
    problem_of_junit,
    read_regular,
    read_session,
)
from llmops_assets.programs.ci_checks.check_run import CheckRun

NAME = "tests"
JUNIT = "pytest.xml"
"""In the artifact: what pytest wrote, as it was verified."""
PYTEST_FILES = ("pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "setup.cfg")


def check_tests(run: CheckRun) -> Check:
    session, junit = run.code.out / "session.json", run.code.out / JUNIT
    secret, with_tests = secrets.token_bytes(32), files_with_tests(run.tree)
    own = run.python if run.spec.environment is None or run.has_module("pytest") else sys.executable
    command = [own, PYTEST_SESSION, str(session), str(junit), "-p", "no:cacheprovider"]
    command += ["--color=no", f"--rootdir={run.tree}", f"--confcutdir={run.tree}"]
    if not run.configures("pytest", PYTEST_FILES):
        command += ["-c", os.devnull]  # else pytest uses the configuration of a parent folder
    ended = run.run(NAME, [*command, "."], given=secret)
    if limit := run.limit(NAME, ended):
        return limit
    told = read_session(session, secret)
    where = "" if own == run.python else "; in our own environment, for the project's has no pytest"
    verdict = judge_session(ended.code, told, junit, run.spec.tests_required, with_tests)
    if told is not None and problem_of_junit(junit, told) is None:
        (run.artifact / JUNIT).write_bytes(read_regular(junit))
    found, omitted = in_order([_failure(run, one) for one in told.failures] if told is not None else [])
    return Check(
        name=NAME,
        passed=verdict.passed,
        summary=verdict.summary + where,
        detail="" if verdict.warn else tail(run.log(NAME)),
        severity="warn" if verdict.warn else "error",
        seconds=ended.seconds,
        findings=found,
        omitted=omitted + (told.more_failures if told is not None else 0),
    )


def _failure(run: CheckRun, one: Failure) -> Finding:
    """A test that failed, at the line that raised if that is the project's, else where the test is."""
    crash = run.name_of(one.path) if one.path else ""
    file, line = (crash, one.line) if crash else (run.name_of(one.file), one.defined)
    return finding(NAME, one.test, one.message, file, line)
