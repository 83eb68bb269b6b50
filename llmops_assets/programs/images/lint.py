"""Lints a Dockerfile with hadolint. An error of its fails the image; warnings are shown."""

import json
from pathlib import Path

from llmops_assets.domain.findings import finding, in_order
from llmops_assets.domain.records import Check
from llmops_assets.programs.images.tools import NoAnswer, find_tool, last_words, run_tool

LINT = "lint"
SECONDS = 120.0


def lint_dockerfile(text: str, name: str, folder: Path, kept: Path) -> Check:
    """The check `lint`; a warning if hadolint could not look.

    Args:
        name: the file's name in the project.
        folder: to run in; no configuration of the project is read, so that a commit cannot switch rules off but in
            the Dockerfile itself.
        kept: file for hadolint's own report.
    """
    try:
        words = [find_tool("hadolint"), "--no-fail", "--format", "json", "--config", "/dev/null", "-"]
        done = run_tool(words, {}, SECONDS, folder, given=text.encode())
        said = json.loads(done.stdout) if done.stdout.strip() else None
        if not isinstance(said, list):
            raise NoAnswer(f"hadolint gave no result: {last_words(done)}")
    except (NoAnswer, ValueError) as error:
        return Check(name=LINT, passed=True, summary=f"not linted: {error}", severity="warn")
    kept.write_bytes(done.stdout)
    found = [
        finding(
            "hadolint",
            str(entry.get("code", "")),
            str(entry.get("message", "")),
            name,
            _number(entry.get("line")),
            _number(entry.get("column")),
            "error" if entry.get("level") == "error" else "warn",
        )
        for entry in said
        if isinstance(entry, dict) and entry.get("level") in ("error", "warning")
    ]
    shown, omitted = in_order(found)
    errors = [f for f in found if f.severity == "error"]
    summary = "; ".join(f.text for f in errors[:3]) or (f"{len(found)} warnings" if found else "no problems")
    return Check(
        name=LINT,
        passed=not errors,
        summary=summary,
        detail="\n".join(f.text for f in shown[:60]),
        findings=shown[:50],
        omitted=omitted + len(shown[50:]),
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
