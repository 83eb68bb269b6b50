"""Runs pytest in this process, and writes what the session did to a signed file once it has ended.

    python pytest_session.py SESSION.json JUNIT.xml PYTEST-ARGUMENT … < SECRET

An exit code of 0 does not show that tests have passed: `os._exit(0)` in a test, `pytest.exit(returncode=0)` or a hook
that sets the exit status give it too, and a JUnit file can be written by anybody. This file is written after pytest's
own end, and names the digest of the JUnit file; the secret that signs it is gone from the input before any code of the
project is imported. Run by its path and importing nothing of ours: the project's folder comes first on `sys.path`.
"""

import hashlib
import hmac
import json
import os
import sys
from pathlib import Path
from typing import Any

MOST_FAILURES, MESSAGE = 200, 400


class Recorder:
    """A plugin that counts what pytest collects, selects and finishes, and notes where tests fail."""

    def __init__(self) -> None:
        self.collected = self.deselected = self.finished = 0
        self.selected: int | None = None
        """None: the session does not say; pytest-xdist collects in other processes."""
        self.outcomes = dict.fromkeys(("passed", "failed", "errors", "skipped", "xfailed"), 0)
        self.failures: list[dict[str, Any]] = []
        self.more_failures = 0

    def pytest_itemcollected(self, item: Any) -> None:
        self.collected += 1

    def pytest_deselected(self, items: Any) -> None:
        self.deselected += len(items)

    def pytest_collection_finish(self, session: Any) -> None:
        self.selected = len(session.items)

    def pytest_runtest_logfinish(self) -> None:
        self.finished += 1

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.outcomes["errors"] += 1
            self._note(report)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.outcomes["failed" if report.when == "call" else "errors"] += 1
            self._note(report)
        elif report.skipped:
            self.outcomes["xfailed" if hasattr(report, "wasxfail") else "skipped"] += 1
        elif report.when == "call" and report.passed:
            self.outcomes["passed"] += 1

    def _note(self, report: Any) -> None:
        if len(self.failures) >= MOST_FAILURES:
            self.more_failures += 1
            return
        crash = getattr(report.longrepr, "reprcrash", None)
        file, defined, _ = getattr(report, "location", None) or (report.nodeid.split("::")[0], None, "")
        said = [line[1:].strip() for line in str(report.longrepr).splitlines() if line.startswith("E ")]
        message = getattr(crash, "message", None) or (said[-1] if said else str(report.longrepr))
        self.failures.append(
            {
                "test": report.nodeid[:MESSAGE],
                "file": str(file)[:MESSAGE],
                "defined": None if defined is None else defined + 1,
                "path": getattr(crash, "path", None),
                "line": getattr(crash, "lineno", None),
                "message": (str(message).strip().splitlines() or ["failed"])[0][:MESSAGE],
            }
        )


def main() -> None:
    import pytest  # here: the location needs this module's path only. Before the project's folder is on `sys.path`

    session, junit, *arguments = sys.argv[1:]
    secret = sys.stdin.buffer.read()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path[0] = str(Path.cwd())  # as `python -m pytest` does
    recorder = Recorder()
    code = int(pytest.main([*arguments, f"--junitxml={junit}"], plugins=[recorder]))
    written = Path(junit)
    told = {
        "exit": code,
        "collected": recorder.collected,
        "deselected": recorder.deselected,
        "selected": recorder.selected,
        "finished": recorder.finished,
        "outcomes": recorder.outcomes,
        "failures": recorder.failures,
        "more_failures": recorder.more_failures,
        "junit": hashlib.sha256(written.read_bytes()).hexdigest() if written.is_file() else None,
    }
    body = json.dumps(told)
    Path(session).write_text(
        json.dumps({"body": body, "signature": hmac.new(secret, body.encode(), "sha256").hexdigest()})
    )
    sys.exit(code)


if __name__ == "__main__":
    main()
