"""The type checker that the project configures: mypy or pyright. One that it configures and that is not installed is
named, not passed over in silence.
"""

import configparser
import json
import os
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmops_assets.domain.findings import Finding, finding
from llmops_assets.domain.records import Check
from llmops_assets.programs.ci_checks.check_run import CheckRun, problems, result_of, unchecked

NAME = "types"
_MYPY_PROBLEMS = _PYRIGHT_PROBLEMS = 1
"""Exit codes."""
_TARGETS = {"files", "packages", "modules"}
"""Options of mypy that name what it checks."""


def check_types(run: CheckRun) -> Check:
    if (options := mypy_options(run.tree)) is not None:
        return _mypy(run, options)
    if run.configures("basedpyright", ()):
        return _pyright(run, ("basedpyright", "pyright"))
    if run.configures("pyright", ("pyrightconfig.json",)):
        return _pyright(run, ("pyright", "basedpyright"))
    return unchecked(NAME, "the project configures neither mypy nor pyright")


def mypy_options(tree: Path) -> set[str] | None:
    """The names of the options in the file that mypy reads; None if the project does not configure mypy."""
    for name in ("mypy.ini", ".mypy.ini", "pyproject.toml", "setup.cfg"):
        try:
            text = (tree / name).read_text(encoding="utf-8")
            if name == "pyproject.toml":
                table = tomllib.loads(text).get("tool", {}).get("mypy")
                found = set(table) if isinstance(table, dict) else None
            else:
                parser = configparser.RawConfigParser(strict=False)
                parser.read_string(text)
                found = set(parser["mypy"]) if parser.has_section("mypy") else None
        except (OSError, ValueError, configparser.Error):
            # mypy says what is wrong with a file of its own.
            found = set() if name.endswith("mypy.ini") and (tree / name).exists() else None
        if found is not None:
            return found
    return None


def _mypy(run: CheckRun, options: set[str]) -> Check:
    if not run.has_module("mypy"):
        return unchecked(NAME, f"the project configures mypy, which is not installed in {run.environment}")
    command = [run.python, "-P", "-m", "mypy", "--output=json", f"--cache-dir={os.devnull}", "--no-error-summary"]
    ended = run.run(NAME, [*command, *([] if options & _TARGETS else ["."])])
    if limit := run.limit(NAME, ended):
        return limit
    found = list(_of_mypy(run))
    if ended.code not in (0, _MYPY_PROBLEMS) and not found:
        return run.broken(NAME, ended, f"mypy failed with exit code {ended.code}")
    return _with_exit_code(run, problems(NAME, found, ended.seconds, passed="no problems, by mypy"), ended.code)


def _of_mypy(run: CheckRun) -> Iterator[Finding]:
    """The errors in mypy's output, which has one JSON object a line."""
    for line in run.output(NAME):
        try:
            one = json.loads(line)
        except ValueError:
            continue
        if isinstance(one, dict) and one.get("severity") == "error":
            column = one["column"] + 1 if isinstance(one.get("column"), int) else None
            name = run.name_of(str(one.get("file")))
            yield finding(NAME, str(one.get("code") or "mypy"), str(one.get("message")), name, one.get("line"), column)


def _pyright(run: CheckRun, tools: Sequence[str]) -> Check:
    """Checks with the first of these tools that is installed. Both read one configuration and print one JSON."""
    tool = next((name for name in tools if run.has_module(name)), None)
    if tool is None:
        return unchecked(NAME, f"the project configures pyright, which is not installed in {run.environment}")
    told = run.code.out / "pyright.json"
    script = "import pathlib, subprocess, sys; pathlib.Path(sys.argv[1]).write_bytes(subprocess.run("
    script += "[sys.executable, '-P', '-m', sys.argv[2], '--outputjson'], stdout=subprocess.PIPE).stdout)"
    ended = run.run(NAME, [run.python, "-P", "-c", script, str(told), tool])
    if limit := run.limit(NAME, ended):
        return limit
    result = result_of(told)
    listed = result.get("generalDiagnostics") if isinstance(result, dict) else None
    if not isinstance(listed, list):
        return run.broken(NAME, ended, f"{tool} gave no result")
    return problems(NAME, list(_of_pyright(run, listed)), ended.seconds, passed=f"no problems, by {tool}")


def _of_pyright(run: CheckRun, listed: list[Any]) -> Iterator[Finding]:
    for one in listed:
        if one.get("severity") not in ("error", "warning"):
            continue
        at = one.get("range", {}).get("start", {})
        line, column = (at[k] + 1 if isinstance(at.get(k), int) else None for k in ("line", "character"))
        severity: Any = "error" if one["severity"] == "error" else "warn"
        file = run.name_of(str(one.get("file")))
        message = " ".join(str(one.get("message")).split())  # its second line begins with non-breaking spaces
        yield finding(NAME, str(one.get("rule") or "pyright"), message, file, line, column, severity)


def _with_exit_code(run: CheckRun, check: Check, code: int) -> Check:
    """The check, failed if the tool says so although no finding was read."""
    if code == 0 or not check.passed:
        return check
    return check.model_copy(update={"passed": False, "summary": f"exit code {code} without a finding"})
