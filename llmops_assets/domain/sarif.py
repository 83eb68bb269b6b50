"""The findings of checks as SARIF 2.1.0, which code hosts show beside the lines of a change. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from llmops_assets.domain.findings import Finding
from llmops_assets.domain.records import Check

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"error": "error", "warn": "warning"}


def sarif_of(checks: Sequence[Check], tools: Mapping[str, str]) -> str:
    """A SARIF log with one run for each check, also for those that found nothing: a code host then closes what it had.

    A check that failed without a finding, such as one that reached its time limit, is a notification of its run.

    Args:
        tools: name of a check → version of its tool.
    """
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(check, tools.get(check.name)) for check in checks]}
    return json.dumps(log, indent=1)


def _run(check: Check, version: str | None) -> dict[str, Any]:
    rules = list(dict.fromkeys(f.rule for f in check.findings))
    driver: dict[str, Any] = {"name": f"llmops/{check.name}", "rules": [{"id": rule} for rule in rules]}
    if version:
        driver["version"] = version
    broken = not check.passed and not check.findings
    invocation: dict[str, Any] = {"executionSuccessful": not broken}
    if broken:
        level = _LEVELS[check.severity]
        invocation["toolExecutionNotifications"] = [{"level": level, "message": {"text": check.summary}}]
    return {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"llmops/{check.name}/"},
        "invocations": [invocation],
        "results": [_result(f, rules.index(f.rule)) for f in check.findings],
        "properties": {"summary": check.summary, "omitted": check.omitted},
    }


def _result(found: Finding, rule: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": found.rule,
        "ruleIndex": rule,
        "level": _LEVELS[found.severity],
        "message": {"text": found.message or found.rule},
    }
    if found.file:
        physical: dict[str, Any] = {"artifactLocation": {"uri": quote(found.file), "uriBaseId": "%SRCROOT%"}}
        if found.line:
            physical["region"] = {"startLine": found.line}
            if found.column:
                physical["region"]["startColumn"] = found.column
        result["locations"] = [{"physicalLocation": physical}]
    return result
