"""The scan for secrets: what a change adds is found at its line and never shown, and only the project allows it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.programs.conftest import Ended, run_program

KEY = "AKIA" + "QYLPMN5HHHFPZAM2"  # in two parts: this file is scanned too
TOKEN = "hunter2" + "-hunter3"


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def scan(tmp_path: Path, files: dict[str, str], base: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    spec = {"work_tree": str(tree(tmp_path / "tree", files)), "ruff": False, "tests": False, "secrets": True, **more}
    if base is not None:
        spec |= {"base_tree": str(tree(tmp_path / "base", base)), "base": "abc1234"}
    ended: Ended = run_program("ci", spec, tmp_path / "out")
    everything = ended.said + "".join(p.read_text() for p in ended.output.rglob("*") if p.is_file())
    assert KEY not in everything and TOKEN not in everything, "the secret is written nowhere"
    return next(c for c in ended.result["checks"] if c["name"] == "secrets")


def places(check: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [(f["file"], f["line"], f["rule"]) for f in check["findings"]]


def test_a_secret_fails_with_its_file_line_and_column(tmp_path: Path) -> None:
    seen = scan(tmp_path, {"src/a.py": f'import os\n\nKEY = "{KEY}"\n', "b.py": "X = 1\n"})
    assert not seen["passed"] and places(seen) == [("src/a.py", 3, "AWS Access Key")]
    assert seen["findings"][0]["column"] == 8 and seen["summary"] == "1 problems in 2 files"
    assert "pragma: allowlist secret" in seen["findings"][0]["message"]


def test_the_line_in_yaml_is_that_of_the_file(tmp_path: Path) -> None:
    """detect-secrets counts the lines of a reformatted copy, and named the line after."""
    seen = scan(tmp_path, {"conf.yaml": f"# settings\n\nname: x\npassword: {TOKEN}\n"})
    assert places(seen) == [("conf.yaml", 4, "Secret Keyword")]


def test_only_what_differs_from_the_base_is_scanned_and_only_new_secrets_fail(tmp_path: Path) -> None:
    old = f'KEY = "{KEY}"\n'
    seen = scan(
        tmp_path,
        {"old.py": old, "moved.py": f"# moved here\n{old}", "new.py": f'password = "{TOKEN}"\n'},
        base={"old.py": old, "was_here.py": old},
    )
    assert places(seen) == [("new.py", 1, "Secret Keyword")]
    assert seen["summary"] == "1 problems in 2 files that differ from abc1234, 1 already in abc1234"


def test_a_pragma_in_the_line_and_a_baseline_of_detect_secrets_allow_what_is_none(tmp_path: Path) -> None:
    files = {"a.py": f'A = "{KEY}"\n', "b.py": f'A = "{KEY}"  # pragma: allowlist secret\n'}
    there = tree(tmp_path / "tree", files)
    words = [sys.executable, "-m", "detect_secrets", "scan", "--no-verify", "--all-files"]
    baseline = subprocess.run(words, cwd=there, capture_output=True, text=True, check=True).stdout
    assert json.loads(baseline)["results"].keys() == {"a.py"}
    seen = scan(tmp_path, {".secrets.baseline": baseline})
    assert seen["passed"] and seen["summary"].endswith("1 allowed by .secrets.baseline")


def test_a_baseline_names_no_code_to_run_and_allows_what_it_lists_only(tmp_path: Path) -> None:
    """A baseline may name plugins and filters by a path, which detect-secrets imports."""
    evil = "raise SystemExit('imported')\n"
    baseline = {
        "version": "1.5.0",
        "plugins_used": [{"name": "Evil", "path": "file://evil.py"}],
        "filters_used": [{"path": "file://evil.py::everything"}],
        "results": {"a.py": [{"type": "AWS Access Key", "hashed_secret": "0" * 40}]},
    }
    seen = scan(tmp_path, {"evil.py": evil, "a.py": f'A = "{KEY}"\n', ".secrets.baseline": json.dumps(baseline)})
    assert places(seen) == [("a.py", 1, "AWS Access Key")]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"results": []}', '{"results": {"a.py": 3}}', '{"results": {"a": [{}]}}']
)
def test_a_baseline_that_is_none_fails_instead_of_allowing_anything(tmp_path: Path, text: str) -> None:
    seen = scan(tmp_path, {"a.py": "X = 1\n", ".secrets.baseline": text})
    assert not seen["passed"] and seen["findings"][0]["file"] == ".secrets.baseline"


def test_digests_that_tools_write_are_no_secrets(tmp_path: Path) -> None:
    digest = "3f2c1ab9d8e7f6a5b4c3d2e1f0a9b8c7"
    files = {
        "data/a.jsonl.dvc": f"outs:\n- md5: {digest}\n  path: a.jsonl\n",
        "dvc.lock": f"schema: '2.0'\nstages:\n  a:\n    outs:\n    - path: x\n      md5: {digest}\n",
        "llmops.yaml": f"model: {{base: {{hub: a/b, revision: {digest}d6e5f4a3}}}}\n",
    }
    assert scan(tmp_path, files)["passed"]


def test_a_file_that_is_too_large_is_named_and_an_ignored_one_is_not_seen(tmp_path: Path) -> None:
    files = {"big.txt": "x\n" * 2**20, "docs/a.py": f'A = "{KEY}"\n'}
    seen = scan(tmp_path, files, ignore=["docs/**"])
    assert seen["passed"] and seen["findings"][0]["file"] == "big.txt"
    assert "not scanned" in seen["findings"][0]["message"] and seen["summary"].startswith("1 warnings in 0 files")
