"""The CI program: the project's own linter and tests, in processes that never outlive it, and what counts as a pass."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmops_assets.machine.processes import is_alive
from tests.programs.conftest import ENVIRONMENT, command, run_program
from tests.support.projects import PYTEST_INI
from tests.support.waiting import wait_for


def checks(tmp_path: Path, **more: Any) -> dict[str, Any]:
    result = run_program("ci", {"work_tree": str(tmp_path / "tree"), **more}, tmp_path / "out").result
    return {c["name"]: c for c in result["checks"]}


def project(tmp_path: Path, ini: str | None = PYTEST_INI, **files: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    if ini is not None:
        (tree / "pytest.ini").write_text(ini)
    for name, text in files.items():
        (tree / f"{name}.py").write_text(text)


def test_clean_code_with_passing_tests_passes(tmp_path: Path) -> None:
    project(
        tmp_path,
        metrics="def one():\n    return 1\n",
        test_metrics="import metrics\n\n\ndef test_one():\n    assert metrics.one() == 1\n",
    )
    seen = checks(tmp_path)
    assert seen["ruff"]["passed"] and seen["tests"]["passed"]
    assert seen["tests"]["summary"] == "1 passed" and seen["tests"]["seconds"] > 0


def test_a_lint_problem_fails_with_its_place(tmp_path: Path) -> None:
    project(tmp_path, metrics="import os\n")
    seen = checks(tmp_path, tests=False)["ruff"]
    assert not seen["passed"] and seen["summary"] == "1 problems" and "metrics.py:1:" in seen["detail"]


def test_failing_tests_are_counted_and_quoted(tmp_path: Path) -> None:
    project(tmp_path, test_it="def test_a():\n    assert 1 == 2\n\n\ndef test_b():\n    pass\n")
    seen = checks(tmp_path, ruff=False)["tests"]
    assert not seen["passed"] and seen["summary"] == "1 passed, 1 failed" and "assert 1 == 2" in seen["detail"]


def test_a_test_file_that_cannot_be_imported_fails(tmp_path: Path) -> None:
    project(tmp_path, test_it="import nowhere_to_be_found\n")
    seen = checks(tmp_path, ruff=False)["tests"]
    assert not seen["passed"] and "1 errors" in seen["summary"] and "nowhere_to_be_found" in seen["detail"]


def test_a_project_without_tests_passes_and_the_report_says_so(tmp_path: Path) -> None:
    project(tmp_path, metrics="X = 1\n")
    seen = checks(tmp_path, ruff=False)["tests"]
    assert seen["passed"] and seen["severity"] == "warn" and "no tests" in seen["summary"]


def test_a_project_without_tests_fails_where_tests_are_required(tmp_path: Path) -> None:
    """A commit that deletes all tests would otherwise pass with a warning."""
    project(tmp_path, metrics="X = 1\n")
    seen = checks(tmp_path, ruff=False, tests_required=True)["tests"]
    assert not seen["passed"] and seen["severity"] == "error" and "ci.tests: required" in seen["summary"]


PASSES = "\n\ndef test_b():\n    pass\n"
MODIFY = "def pytest_collection_modifyitems(config, items):\n    "
FORGED = "<testsuites><testsuite name='pytest' tests='3' failures='0' errors='0' skipped='0'/></testsuites>"


def of(*lines: str) -> str:
    """A test file with one test of these lines, which know the path of the JUnit file, and one that passes."""
    imports = "import atexit, os, pytest\n\n\ndef test_a(request):\n    path = request.config.option.xmlpath\n"
    return imports + "".join(f"    {line}\n" for line in lines) + PASSES


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (of("os._exit(0)"), "before its session did"),
        ("import os\nos._exit(0)\n", "before its session did"),
        (of(f'open(path, "w").write("{FORGED}")', "os._exit(0)"), "before its session did"),
        (of("pytest.exit('enough', returncode=0)"), "cut short: 0 of 2"),
        (of("atexit.register(os.remove, path)"), "cannot be read after pytest wrote it: No such file"),
        (of("atexit.register(os.truncate, path, 60)"), "altered after pytest wrote it"),
        (of("atexit.register(lambda: (os.remove(path), os.mkfifo(path)))"), "not a regular file"),
        ("import pytest\n\n@pytest.mark.skip\ndef test_a():\n    pass\n", "no test passed (1 skipped)"),
        ("import pytest\n\n@pytest.mark.xfail\ndef test_a():\n    assert 0\n", "no test passed (1 xfailed)"),
        (of("atexit.register(os._exit, 3)"), "after its tests, the process ended with exit code 3"),
    ],
)
def test_exit_code_0_alone_is_no_pass(tmp_path: Path, code: str, says: str) -> None:
    """`os._exit(0)` in a test gave exit code 0 and no JUnit file, and CI said "passed"."""
    project(tmp_path, test_it=code)
    seen = checks(tmp_path, ruff=False)["tests"]
    assert not seen["passed"] and says in seen["summary"], seen


@pytest.mark.parametrize(
    ("hooks", "passed", "says"),
    [
        ("def pytest_sessionfinish(session):\n    session.exitstatus = 0\n", False, "1 passed, 1 failed"),
        (
            MODIFY + "del items[:]\n",
            False,
            "none of the 2 collected tests",
        ),
        (
            MODIFY + "del items[0]\n",
            True,
            "1 passed, 1 removed by the project's own hooks",
        ),
        (
            MODIFY + "config.hook.pytest_deselected(items=[items.pop(0)])\n",
            True,
            "1 passed, 1 deselected",
        ),
        ("def pytest_configure(config):\n    config.option.collectonly = True\n", False, "0 of 2 tests ran"),
        ("collect_ignore_glob = ['*']\n", False, "collected no test, but test_it.py has some"),
        ("raise SystemExit(0)\n", False, "before its session did"),
    ],
)
def test_hooks_of_the_project_hide_no_failure_and_are_named(
    tmp_path: Path, hooks: str, passed: bool, says: str
) -> None:
    """A hook that sets the exit status, or drops tests, turned a red suite green without a word."""
    project(tmp_path, conftest=hooks, test_it="def test_a():\n    assert 0\n" + PASSES)
    seen = checks(tmp_path, ruff=False)["tests"]
    assert seen["passed"] is passed and says in seen["summary"], seen


def test_a_configuration_above_the_project_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "ruff.toml").write_text("[lint]\nignore = ['F401']\n")
    (tmp_path / "conftest.py").write_text("raise RuntimeError('not ours')\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = nothing_*.py\n")
    project(tmp_path, ini=None, metrics="import os\n", test_it="def test_a():\n    pass\n")
    seen = checks(tmp_path)
    assert not seen["ruff"]["passed"] and seen["tests"]["summary"] == "1 passed"


def test_tests_that_hang_fail_in_time(tmp_path: Path) -> None:
    project(tmp_path, test_it="import threading\n\n\ndef test_a():\n    threading.Event().wait()\n")
    seen = checks(tmp_path, ruff=False, timeout_s=3.0)["tests"]
    assert not seen["passed"] and "did not end within 3 s" in seen["summary"]


def test_stopping_the_program_stops_the_projects_tests(tmp_path: Path) -> None:
    """A cancelled run must not leave a project's endless test running."""
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    project(
        tmp_path,
        test_it="import os\nimport threading\n\n\ndef test_a():\n"
        f"    open({str(pipe)!r}, 'w').write(str(os.getpid()))\n    threading.Event().wait()\n",
    )
    spec = {"work_tree": str(tmp_path / "tree"), "ruff": False, "code": {"isolation": "off"}}
    program = subprocess.Popen(command("ci", spec, tmp_path / "out"), env=ENVIRONMENT)
    tests = psutil.Process(int(pipe.read_text()))  # waits until the test writes
    program.send_signal(signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM
    wait_for("the end of the tests", lambda: not is_alive(tests))
