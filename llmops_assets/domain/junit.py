"""The checks of the CI stage as JUnit XML, with the project's own tests. Pure."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from llmops_assets.domain.records import Check

SUITE = "llmops"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_of(checks: Sequence[Check], tests: bytes | None = None) -> bytes:
    """One suite with a test case for each check, and after it the suites of the project's own tests.

    Args:
        tests: the JUnit file that pytest wrote, as it was verified; None: there is none.
    """
    seconds = f"{sum(c.seconds for c in checks):.3f}"
    failures = str(sum(_fails(c) for c in checks))
    skipped = str(sum(not _fails(c) and not_checked(c) for c in checks))
    suites = ElementTree.Element("testsuites")
    counts = {"tests": str(len(checks)), "failures": failures, "errors": "0", "skipped": skipped, "time": seconds}
    suite = ElementTree.SubElement(suites, "testsuite", {"name": SUITE, **counts})
    for check in checks:
        name = {"classname": SUITE, "name": check.name, "time": f"{check.seconds:.3f}"}
        case = ElementTree.SubElement(suite, "testcase", name)
        if _fails(check):
            failure = ElementTree.SubElement(case, "failure", {"message": _xml(check.summary)})
            failure.text = _xml("\n".join(f.text for f in check.findings) or check.detail)
        elif not_checked(check):
            ElementTree.SubElement(case, "skipped", {"message": _xml(check.summary)})
        else:
            ElementTree.SubElement(case, "system-out").text = _xml(check.summary)
    if tests is not None:
        root = ElementTree.fromstring(tests)
        suites.extend([root] if root.tag == "testsuite" else list(root.iter("testsuite")))
    return ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)


NOT_CHECKED = "not checked: "
"""How the summary of a check begins that could not look."""


def not_checked(check: Check) -> bool:
    return check.summary.startswith(NOT_CHECKED)


def _fails(check: Check) -> bool:
    return not check.passed and check.severity == "error"


def _xml(text: str) -> str:
    """Text without the characters that XML cannot hold."""
    return _NOT_XML.sub("?", text)
