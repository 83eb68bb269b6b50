"""Secrets that a change adds, found by detect-secrets in a process that sees the project and nothing else.

What is allowed is the project's own word: `.secrets.baseline`, as `detect-secrets scan` writes it, and `pragma:
allowlist secret` in a line. The check says how many the baseline allows. The secrets themselves are never shown.
"""

import filecmp
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from llmops_assets.config.documents import DocumentError, parse_object, read_file
from llmops_assets.domain.findings import finding
from llmops_assets.domain.records import Check
from llmops_assets.programs.checks.project_code import __file__ as PROJECT_CODE
from llmops_assets.programs.checks.project_code import files_in_git
from llmops_assets.programs.ci_checks.check_run import CheckRun, problems, result_of

NAME = "secrets"
SESSION = str(Path(PROJECT_CODE).with_name("secret_scan_session.py"))
"""Run by its path: importing it here would take requests away from this process."""
BASELINE = ".secrets.baseline"
BASELINE_BYTES = 4 * 2**20
LARGEST = 2**20
"""Bytes of a file that is scanned: larger ones are data."""
REMEDY = (
    "revoke it if it was pushed, and read it from the environment; if it is none, end the line with "
    "`pragma: allowlist secret`, or list it in .secrets.baseline by `detect-secrets scan`"
)


def check_secrets(run: CheckRun, names: Sequence[str]) -> Check:
    """Scans the files that differ from the base, or all.

    Args:
        names: the files of the private copy.
    """
    try:
        allowed = allowed_by_baseline(run.tree / BASELINE)
    except DocumentError as error:
        return problems(NAME, [finding(NAME, "baseline", str(error), BASELINE, error.line)])
    files = [n for n in names if (run.tree / n).is_file() and not (run.tree / n).is_symlink()]
    before: list[str] = []
    if run.spec.base_tree is not None:
        base = Path(run.spec.base_tree)
        changed = [n for n in files if not _equal(run.tree / n, base / n)]
        old = [n for n in files_in_git(base) if not _equal(base / n, run.tree / n)]
        before = [n for n in old if _is_plain(base / n) and (base / n).stat().st_size <= LARGEST]
        files = changed
    copy = run.code.out / "base"
    for name in before:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(run.spec.base_tree or "") / name, copy / name)
    told = run.code.out / "secrets.json"
    asked = {"files": files, "base": str(copy), "base_files": before, "allowed": allowed, "largest": LARGEST}
    ended = run.run(NAME, [sys.executable, "-P", SESSION, str(told)], given=json.dumps(asked).encode())
    if limit := run.limit(NAME, ended):
        return limit
    result = result_of(told)
    if ended.code or not isinstance(result, dict):
        return run.broken(NAME, ended, f"the scan failed with exit code {ended.code}")
    found = [
        finding(NAME, one["type"], f"possible secret; {REMEDY}", one["file"], one["line"], one["column"])
        for one in result["found"]
    ]
    found += [
        finding(NAME, "too-large", f"not scanned: larger than {LARGEST // 2**20} MiB", name, severity="warn")
        for name in result["skipped"]
    ]
    check = problems(NAME, found, ended.seconds, passed="no new secrets")
    of = f"{result['scanned']} files" + (f" that differ from {run.spec.base}" if run.spec.base_tree else "")
    also = {f"allowed by {BASELINE}": result["allowed"], f"already in {run.spec.base}": result["old"]}
    more = "".join(f", {count} {what}" for what, count in also.items() if count)
    return check.model_copy(update={"summary": f"{check.summary} in {of}{more}"})


def allowed_by_baseline(path: Path) -> list[tuple[str, str, str]]:
    """File, type and digest of what the project's baseline allows; what its audit calls a real secret is not.

    Raises:
        DocumentError: it is not a baseline of detect-secrets.
    """
    if not path.exists() and not path.is_symlink():
        return []
    results = parse_object(read_file(path, BASELINE_BYTES)).get("results")
    if not isinstance(results, dict):
        raise DocumentError("no baseline of detect-secrets: it has no `results`; `detect-secrets scan` writes one")
    try:
        return [
            (os.path.normpath(str(file)), str(one["type"]), str(one["hashed_secret"]))
            for file, listed in results.items()
            for one in listed
            if one.get("is_secret") is not True
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise DocumentError("no baseline of detect-secrets; `detect-secrets scan` writes one") from error


def _equal(one: Path, other: Path) -> bool:
    try:
        return _is_plain(other) and filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
