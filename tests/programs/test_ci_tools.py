"""A project's type checker and its own commands: their findings, and what is said where a tool did not look."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from tests.programs.conftest import run_program
from tests.support.shared import once


def checks(tmp_path: Path, files: dict[str, str], **more: Any) -> dict[str, Any]:
    for name, text in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    spec = {"work_tree": str(tmp_path / "tree"), "ruff": False, "tests": False, **more}
    return {c["name"]: c for c in run_program("ci", spec, tmp_path / "out").result["checks"]}


WRONG = "def name(x: int) -> str:\n    return x\n"


@pytest.mark.parametrize(
    "configured",
    [
        {"mypy.ini": "[mypy]\n"},
        {"setup.cfg": "[mypy]\nfiles = src\n"},
        {"pyproject.toml": "[tool.mypy]\npackages = ['src']\n", "src/__init__.py": ""},
    ],
)
def test_mypy_reports_file_line_and_column(tmp_path: Path, configured: dict[str, str]) -> None:
    seen = checks(tmp_path, {"src/a.py": WRONG, **configured}, types=True)["types"]
    (found,) = seen["findings"]
    assert not seen["passed"] and seen["summary"] == "1 problems"
    assert (found["rule"], found["file"], found["line"], found["column"]) == ("return-value", "src/a.py", 2, 12)


def test_a_plugin_of_mypy_is_the_projects_code_and_runs_in_its_place(tmp_path: Path) -> None:
    """mypy imports the plugins that a project names: one that ends the process is no pass."""
    files = {"mypy.ini": "[mypy]\nplugins = plug.py\n", "plug.py": "raise SystemExit(7)\n", "a.py": WRONG}
    seen = checks(tmp_path, files, types=True)["types"]
    assert not seen["passed"] and "7" in seen["summary"]


def test_a_type_checker_that_did_not_look_is_named(tmp_path: Path) -> None:
    seen = checks(tmp_path / "one", {"a.py": WRONG}, types=True)["types"]
    assert seen["severity"] == "warn" and seen["summary"].startswith("not checked: the project configures neither")
    seen = checks(tmp_path / "two", {"pyrightconfig.json": "{}"}, types=True)["types"]
    assert (
        seen["summary"] == "not checked: the project configures pyright, which is not installed in our own environment"
    )


@pytest.fixture(scope="module")
def with_pyright(cache: Path) -> Path:
    """An environment with basedpyright, which brings pyright's own checker and its Node."""
    folder, uv = cache / "with-pyright", [find_uv_bin(), "--quiet"]

    def install() -> None:
        subprocess.run([*uv, "venv", "--python", sys.executable, str(folder)], check=True, capture_output=True)
        words = [*uv, "pip", "install", "--python", str(folder / "bin/python"), "basedpyright"]
        done = subprocess.run(words, capture_output=True, text=True)
        (folder / "why-not").write_text(done.stderr if done.returncode else "")

    once(folder, install)
    if why := (folder / "why-not").read_text():
        pytest.skip(f"basedpyright could not be installed: {why[-300:]}")
    return folder


@pytest.mark.parametrize(
    "configured",
    [
        {"pyrightconfig.json": '{"include": ["src"], "typeCheckingMode": "standard"}'},
        {"pyproject.toml": "[tool.pyright]\ntypeCheckingMode = 'standard'\n"},
        {"pyproject.toml": "[tool.basedpyright]\ntypeCheckingMode = 'standard'\n"},
    ],
)
def test_pyright_reports_file_line_and_column(tmp_path: Path, with_pyright: Path, configured: dict[str, str]) -> None:
    files = {"src/a.py": WRONG, "src/b.py": "def right() -> int:\n    return 1\n", **configured}
    seen = checks(tmp_path, files, types=True, environment=str(with_pyright))["types"]
    (found,) = seen["findings"]
    assert not seen["passed"] and found["message"].startswith('Type "int" is not assignable to return type "str"')
    assert (found["rule"], found["file"], found["line"], found["column"]) == ("reportReturnType", "src/a.py", 2, 12)
    assert found["message"].isprintable() and found["severity"] == "error"


def sarif(*results: dict[str, Any], version: str = "2.1.0") -> str:
    rules = [{"id": "R1", "defaultConfiguration": {"level": "error"}}]
    runs = [{"tool": {"driver": {"name": "x", "rules": rules}}, "results": list(results)}]
    return json.dumps({"version": version, "runs": runs})


def at(uri: str, line: int, **more: Any) -> dict[str, Any]:
    place = {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}
    return {"ruleId": "R1", "message": {"text": "bad"}, "locations": [{"physicalLocation": place}], **more}


def command(tmp_path: Path, code: str, **files: str) -> dict[str, Any]:
    named = {"name": "own", "run": ["python", "tool.py"], "sarif": "o.sarif", "junit": None, **files}
    return checks(tmp_path, {"tool.py": code}, commands=[named])["own"]


def writing(text: str, file: str = "o.sarif", code: int = 0) -> str:
    return f"import pathlib, sys\npathlib.Path({file!r}).write_text({text!r})\nsys.exit({code})\n"


def test_a_commands_sarif_is_read(tmp_path: Path) -> None:
    log = sarif(
        at("src/a%20b.py", 3, ruleIndex=0),
        at("src/c.py", 4, level="warning"),
        at("src/d.py", 5, level="note"),
        at("../../etc/passwd", 7),
        at("src/e.py", 6, ruleIndex=0, suppressions=[{"kind": "inSource"}]),
    )
    seen = command(tmp_path, writing(log))
    places = [(f["file"], f["line"], f["severity"]) for f in seen["findings"]]
    assert places == [("src/a b.py", 3, "error"), ("", None, "warn"), ("src/c.py", 4, "warn")]
    assert not seen["passed"] and seen["summary"] == "1 problems, 2 warnings"


def test_a_commands_junit_is_read(tmp_path: Path) -> None:
    junit = "<testsuites><testsuite><testcase classname='t' name='a' file='t.py' line='4'><failure message='no'/>"
    junit += "</testcase><testcase name='b'/></testsuite></testsuites>"
    seen = command(tmp_path, writing(junit, "j.xml"), sarif=None, junit="j.xml")  # type: ignore[arg-type]
    (found,) = seen["findings"]
    assert (found["rule"], found["file"], found["line"], found["message"]) == ("t.a", "t.py", 4, "no")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (writing(sarif(), code=3), "exit code 3"),
        (writing(sarif(at("a.py", 1, level="warning")), code=1), "1 warnings, exit code 1"),
        ("", "1 problems"),
        (writing("{"), "1 problems"),
        (writing("[]"), "1 problems"),
        (writing(sarif(version="2.0.0")), "1 problems"),
        (writing('{"version": "2.1.0", "runs": [{"results": [3]}]}'), "1 problems"),
        ("import os\nos.symlink('/etc/passwd', 'o.sarif')\n", "1 problems"),
        ("import os\nos.mkfifo('o.sarif')\n", "1 problems"),
        ("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9')\n", "1 problems, exit code 1"),
    ],
)
def test_a_command_whose_report_is_missing_or_wrong_fails(tmp_path: Path, code: str, says: str) -> None:
    seen = command(tmp_path, code)
    assert not seen["passed"] and seen["summary"] == says, seen
    assert "root:" not in json.dumps(seen)
