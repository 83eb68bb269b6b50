"""ruff: the project's Python, by its own configuration or ruff's defaults."""

import sys

from llmops_assets.domain.findings import finding
from llmops_assets.domain.records import Check
from llmops_assets.programs.checks.project_code import tail
from llmops_assets.programs.ci_checks.check_run import CheckRun, problems, result_of

NAME = "ruff"
_PROBLEMS = 1
"""ruff's exit code."""


def check_ruff(run: CheckRun) -> Check:
    told = run.code.out / "ruff.json"
    command = [sys.executable, "-P", "-m", "ruff", "check", "--no-cache", "--output-format=json"]
    command += [f"--output-file={told}"]
    if not run.configures("ruff", ("ruff.toml", ".ruff.toml")):
        command.append("--isolated")  # else ruff uses the configuration of a parent folder
    ended = run.run(NAME, [*command, "."])
    if limit := run.limit(NAME, ended):
        return limit
    listed = result_of(told)
    if ended.code not in (0, _PROBLEMS) or not isinstance(listed, list) or bool(ended.code) is not bool(listed):
        return run.broken(NAME, ended, f"ruff failed with exit code {ended.code}")
    found = [
        finding(
            NAME,
            str(one.get("code") or "syntax"),
            str(one["message"]),
            run.name_of(one["filename"]),
            one["location"]["row"],
            one["location"]["column"],
        )
        for one in listed
    ]
    empty = "no Python files" if "No Python files" in tail(run.log(NAME)) else "no problems"
    return problems(NAME, found, ended.seconds, passed=empty)
