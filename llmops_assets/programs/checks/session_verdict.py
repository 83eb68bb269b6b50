"""The verdict on a session of pytest: what it signed, its JUnit file and its exit code must agree.

A pass needs a session that ended by itself, a JUnit file that pytest wrote, and at least one test that passed.
"""

import hashlib
import hmac
import json
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from pydantic import ValidationError

from llmops_assets.domain.models import Frozen

NO_TESTS = "the project has no tests"
NO_TESTS_COLLECTED = 5  # pytest's exit code
_TEST = re.compile(rb"^\s*(async\s+)?def test|^class Test", re.MULTILINE)
LARGEST = 64 * 2**20


class Failure(Frozen):
    """A test, or the collection of a file, that failed."""

    test: str
    file: str
    defined: int | None
    """Line of the test in `file`."""
    path: str | None
    """File that raised; any on the machine."""
    line: int | None
    message: str


class Session(Frozen):
    """What `pytest_session` says of the session that it ran."""

    exit: int
    collected: int
    deselected: int
    selected: int | None
    finished: int
    outcomes: dict[str, int]
    junit: str | None
    failures: tuple[Failure, ...] = ()
    more_failures: int = 0

    @property
    def counts(self) -> str:
        """For example "3 passed, 1 skipped, 2 deselected"."""
        hidden = self.collected - self.deselected - self.selected if self.selected is not None else 0
        more = {"deselected": self.deselected, "removed by the project's own hooks": max(0, hidden)}
        return ", ".join(f"{n} {what}" for what, n in {**self.outcomes, **more}.items() if n)


class Tested(Frozen):
    """The verdict in words."""

    passed: bool
    summary: str
    warn: bool = False


def read_session(path: Path, secret: bytes) -> Session | None:
    """The session's own account; None if pytest did not come to its end, or the file is not what it signed."""
    try:
        told = json.loads(read_regular(path))
        body = told["body"]
        if not hmac.compare_digest(told["signature"], hmac.new(secret, body.encode(), "sha256").hexdigest()):
            return None
        return Session.model_validate_json(body)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError):
        return None


def read_regular(path: Path) -> bytes:
    """A file that code of the project may have replaced, for example by a pipe that nobody writes to.

    Raises:
        OSError: it is missing, no regular file, or too large.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a regular file")
    if found.st_size > LARGEST:
        raise OSError(f"it is larger than {LARGEST // 2**20} MiB")
    return path.read_bytes()


def problem_of_junit(path: Path, session: Session) -> str | None:
    """What is wrong with the JUnit file; None if it is the one that pytest wrote, and lists every test that ran."""
    if session.junit is None:
        return "pytest wrote no JUnit report; its plugin junitxml must not be disabled"
    try:
        written = read_regular(path)
    except OSError as error:
        return f"the JUnit report cannot be read after pytest wrote it: {error.strerror or error}"
    if hashlib.sha256(written).hexdigest() != session.junit:
        return "the JUnit report was altered after pytest wrote it"
    try:
        listed = sum(int(suite.get("tests", 0)) for suite in ElementTree.fromstring(written).iter("testsuite"))
    except (ElementTree.ParseError, ValueError):
        return "the JUnit report is cut short or not valid XML"
    if listed < session.finished:
        return f"the JUnit report lists {listed} of the {session.finished} tests that ran"
    return None


def files_with_tests(tree: Path) -> list[str]:
    """Files in which pytest would look for tests by default, and which seem to have some."""
    found = []
    for path in sorted({*tree.rglob("test_*.py"), *tree.rglob("*_test.py")}):
        if not path.is_symlink() and path.is_file() and _TEST.search(path.read_bytes()):
            found.append(path.relative_to(tree).as_posix())
    return found


def judge_session(
    code: int, session: Session | None, junit: Path, required: bool, with_tests: Sequence[str] = ()
) -> Tested:
    """The verdict.

    Args:
        code: exit code of the process, negative for a signal.
        session: see `read_session`.
        junit: the JUnit file.
        required: a project without tests fails.
        with_tests: see `files_with_tests`.
    """
    ended = f"exit code {code}" if code >= 0 else f"signal {-code}"
    if session is None:
        return _failed(
            f"pytest ended with {ended} before its session did, so no test counts; a test or a conftest.py may have "
            "ended the process, for example with os._exit"
        )
    bad = session.outcomes.get("failed", 0) + session.outcomes.get("errors", 0)
    if bad:
        return _failed(session.counts)
    if session.exit == NO_TESTS_COLLECTED == code and not session.collected:
        if with_tests:
            return _failed(f"pytest collected no test, but {', '.join(with_tests[:3])} has some; is it ignored?")
        asked = ", and ci.tests: required asks for at least one" if required else ""
        return Tested(passed=not required, summary=NO_TESTS + asked, warn=not required)
    if session.exit == NO_TESTS_COLLECTED:
        return _failed(f"none of the {session.collected} collected tests was selected: {session.counts}")
    if session.exit:
        return _failed(f"pytest failed with exit code {session.exit}" + _in_brackets(session.counts))
    if code:
        return _failed(f"after its tests, the process ended with {ended}" + _in_brackets(session.counts))
    if problem := problem_of_junit(junit, session):
        return _failed(problem)
    if session.selected is not None and session.finished < session.selected:
        return _failed(f"the session was cut short: {session.finished} of {session.selected} tests ran")
    if not session.outcomes.get("passed"):
        return _failed(f"no test passed{_in_brackets(session.counts)}; at least one must")
    return Tested(passed=True, summary=session.counts)


def _failed(summary: str) -> Tested:
    return Tested(passed=False, summary=summary)


def _in_brackets(counts: str) -> str:
    return f" ({counts})" if counts else ""
