"""A command that the project names in `ci.commands`: its exit code, and the SARIF and JUnit files that it writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

from llmops_assets.config.documents import DocumentError, parse_object
from llmops_assets.domain.findings import Finding, finding
from llmops_assets.domain.records import Check
from llmops_assets.programs.checks.session_verdict import read_regular
from llmops_assets.programs.ci_checks.check_run import CheckRun, problems
from llmops_assets.programs.runtime.specs import CiCommandSpec


def check_command(run: CheckRun, command: CiCommandSpec) -> Check:
    ended = run.run(command.name, command.run)
    if limit := run.limit(command.name, ended):
        return limit
    found: list[Finding] = []
    for file, read in ((command.sarif, of_sarif), (command.junit, of_junit)):
        if file is not None:
            try:
                found += read(run, command.name, read_regular(_inside(run.tree, file)))
            except (OSError, DocumentError, ElementTree.ParseError, LookupError, TypeError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                found.append(finding(command.name, "report", f"the command's report cannot be read: {why}", file))
    check = problems(command.name, found, ended.seconds, passed="exit code 0")
    if ended.code and not found:
        return run.broken(command.name, ended, f"exit code {ended.code}")
    if ended.code:
        return check.model_copy(update={"passed": False, "summary": f"{check.summary}, exit code {ended.code}"})
    return check


def _inside(tree: Path, file: str) -> Path:
    """The file, which no link may lead out of the project.

    Raises:
        OSError: it does not exist, or leads elsewhere.
    """
    there = (tree / file).resolve(strict=True)
    if not there.is_relative_to(tree.resolve()):
        raise OSError("it is a link out of the project")
    return there


def of_sarif(run: CheckRun, tool: str, data: bytes) -> Iterator[Finding]:
    """The errors and warnings of a SARIF log that are not suppressed.

    Raises:
        DocumentError, LookupError, TypeError, ValueError: it is none.
    """
    log = parse_object(data)
    if log.get("version") != "2.1.0":
        raise DocumentError(f"its version is {log.get('version')!r}; SARIF 2.1.0 is read")
    for one_run in log["runs"]:
        rules = one_run["tool"]["driver"].get("rules", [])
        for one in one_run.get("results") or ():
            index = one.get("ruleIndex", -1)
            rule = rules[index] if 0 <= index < len(rules) else {}
            level = one.get("level") or rule.get("defaultConfiguration", {}).get("level", "warning")
            if level not in ("error", "warning") or one.get("suppressions") or one.get("kind", "fail") != "fail":
                continue
            physical = (one.get("locations") or [{}])[0].get("physicalLocation", {})
            region = physical.get("region", {})
            yield finding(
                tool,
                str(one.get("ruleId") or rule.get("id") or tool),
                str(one["message"].get("text") or one["message"].get("id") or "no message"),
                _file_of(run, str(physical.get("artifactLocation", {}).get("uri", ""))),
                _number(region.get("startLine")),
                _number(region.get("startColumn")),
                "error" if level == "error" else "warn",
            )


def _file_of(run: CheckRun, uri: str) -> str:
    return run.name_of(unquote(urlparse(uri).path)) if uri else ""


def of_junit(run: CheckRun, tool: str, data: bytes) -> Iterator[Finding]:
    """The test cases of a JUnit file that failed.

    Raises:
        ElementTree.ParseError: it is no XML.
        ValueError: it is no JUnit file.
    """
    root = ElementTree.fromstring(data)
    if root.tag not in ("testsuites", "testsuite"):
        raise ValueError(f"its root is <{root.tag[:40]}>, not <testsuites>")
    for case in root.iter("testcase"):
        failed = next((child for child in case if child.tag in ("failure", "error")), None)
        if failed is not None:
            name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
            message = failed.get("message") or (failed.text or "").strip() or failed.tag
            file = run.name_of(case.get("file") or "") if case.get("file") else ""
            yield finding(tool, name or tool, message.splitlines()[0], file, _number(case.get("line")))


def _number(value: Any) -> int | None:
    return (
        int(value)
        if isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdigit())
        else None
    )
