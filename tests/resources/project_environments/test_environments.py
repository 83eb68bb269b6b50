"""Environments from the locks of projects: uv builds them from real wheels, and nothing of the project runs."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from uv import find_uv_bin

from llmops_assets.config.ci import Ci
from llmops_assets.config.compute import ComputeSettings
from llmops_assets.delivery.ci import check_tree, ci_spec
from llmops_assets.domain.answers import findings_of
from llmops_assets.domain.records import Check
from llmops_assets.domain.verdict import judge_checks
from resources.project_environments.environments import ProjectEnvironments, python_of
from resources.project_environments.requirements import requirements_of
from resources.project_environments.uv import IndexUnreachable, NotBuilt
from tests.support.ports import free_port
from tests.support.shared import once

HASH = "--hash=sha256:" + "0" * 64
PYPROJECT = """[project]
name = "zoo"
version = "1"
requires-python = ">=3.11"
dependencies = ["cowsay==6.1"]

[dependency-groups]
dev = ["pytest"]
"""
SEES = "import sys\nimport cowsay\n\n\ndef test_where() -> None:\n    assert 'ci-environments' in sys.prefix\n"


@pytest.fixture(scope="module")
def locked(cache: Path) -> Path:
    """A folder with pyproject.toml and uv.lock: pytest, and a package that our own environment does not have."""

    def lock() -> None:
        (cache / "locked").mkdir()
        (cache / "locked/pyproject.toml").write_text(PYPROJECT)
        words = [find_uv_bin(), "--quiet", "lock", "--python", sys.executable]
        done = subprocess.run(words, cwd=cache / "locked", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return once(cache / "locked", lock)


@pytest.fixture(scope="module")
def environments(cache: Path) -> ProjectEnvironments:
    return ProjectEnvironments(cache / "ci-environments")


def ci(tree: Path, folder: Path, environments: ProjectEnvironments) -> dict[str, Check]:
    rules = Ci(ruff=False, secrets=False, types=False)
    checks, _, _ = check_tree(ci_spec(rules, ComputeSettings(), tree), rules, folder, environments)
    return {c.name: c for c in checks}


def test_tests_run_in_the_environment_of_the_lock(
    locked: Path, environments: ProjectEnvironments, tmp_path: Path
) -> None:
    tree = shutil.copytree(locked, tmp_path / "tree")
    (tree / "test_it.py").write_text(SEES)
    seen = ci(tree, tmp_path / "out", environments)
    assert seen["tests"].summary == "1 passed", seen["tests"]
    assert seen["environment"].passed and seen["environment"].summary.startswith("uv.lock: ")
    (built,) = [p for p in environments.folder.iterdir() if (p / "pyvenv.cfg").exists()]
    before = {p: p.stat().st_ino for p in built.rglob("*.py")}
    with environments.of(tree) as again:
        assert again is not None and again.folder == built
    assert {p: p.stat().st_ino for p in built.rglob("*.py")} == before, "it is not built again"


def test_without_a_lock_they_run_in_ours_and_a_lock_that_cannot_be_used_fails_with_its_line(
    environments: ProjectEnvironments, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/test_it.py").write_text("def test_a() -> None:\n    pass\n")
    seen = ci(tmp_path / "tree", tmp_path / "one", environments)
    assert seen["tests"].passed and "our own environment: the project has neither" in seen["environment"].summary
    (tmp_path / "tree/requirements.txt").write_text(f"# pins\n-e . {HASH}\n")
    seen = ci(tmp_path / "tree", tmp_path / "two", environments)
    (found,) = seen["environment"].findings
    assert seen["tests"].passed, "they ran, in another environment than the locked one"
    assert not seen["environment"].passed and seen["environment"].severity == "error"
    assert (found.file, found.line, found.severity) == ("requirements.txt", 2, "error")
    told = judge_checks("the code", None, [seen["environment"]]).failures
    assert told[0].startswith("environment: requirements.txt:2: not-built: ")
    assert findings_of([seen["environment"]])[0].line == 2, "an annotation of the pull request"


@pytest.mark.parametrize(
    "line",
    [
        f"six @ https://example.com/six.whl {HASH}",
        f"./six {HASH}",
        f"-e . {HASH}",
        f"six==1.16.0 {HASH}\n-r /etc/passwd",
        f"six==1.16.0 {HASH}\n--index-url https://example.com/simple",
        f"six==1.16.0 {HASH} --config-settings=a=b",
        f"six>=1.0 {HASH}",
        f"six==1.16.0\nother==1.0 {HASH}",
        f"six==1.16.0 {HASH[:-1]}",
        f"six==1.16.0 {HASH} \\",
    ],
)
def test_a_lock_names_packages_and_never_an_address_a_path_or_an_option(tmp_path: Path, line: str) -> None:
    """Building happens outside the isolation: such a line would make our installer read or fetch what a commit says."""
    (tmp_path / "requirements.txt").write_text(f"{line}\n")
    with pytest.raises(NotBuilt):
        requirements_of(tmp_path)


def test_what_has_no_wheel_or_another_digest_is_not_built(environments: ProjectEnvironments, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"# pinned\nsix==1.16.0 {HASH}\n")
    with pytest.raises(NotBuilt, match="uv pip failed") as told, environments.of(tmp_path):
        pass
    assert (told.value.file, told.value.line) == ("requirements.txt", 2)
    (tmp_path / "requirements.txt").write_text(f"no-such-package-of-ours==1.0 \\\n    {HASH}\n")
    with pytest.raises(NotBuilt, match="no-such-package-of-ours") as told, environments.of(tmp_path):
        pass
    assert told.value.line == 1
    (tmp_path / "requirements.txt").write_text("six==1.16.0\n")
    with environments.of(tmp_path) as found:
        assert found is None, "a file without digests is no lock"
    with environments.of(tmp_path, ignore=["requirements.txt"]) as found:
        assert found is None


def test_a_uv_lock_that_is_damaged_is_named_with_its_line(locked: Path, tmp_path: Path) -> None:
    tree = shutil.copytree(locked, tmp_path / "tree")
    text = (tree / "uv.lock").read_text().splitlines()
    text[3] = "<<<<<<< HEAD"
    (tree / "uv.lock").write_text("\n".join(text))
    with pytest.raises(NotBuilt) as told:
        requirements_of(tree)
    assert (told.value.file, told.value.line) == ("uv.lock", 4), told.value


def test_an_index_that_does_not_answer_is_no_fault_of_the_lock(
    environments: ProjectEnvironments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a finding it would be the change's fault, and nothing would try again once the index is back."""
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}/simple")
    (tmp_path / "requirements.txt").write_text("cowsay==6.1 --hash=sha256:" + "1" * 64 + "\n")
    with pytest.raises(IndexUnreachable, match="the package index does not answer"), environments.of(tmp_path):
        pass


def test_one_that_is_not_used_is_dropped_and_one_in_use_is_not(locked: Path, environments: ProjectEnvironments) -> None:
    with environments.of(locked) as built:
        assert built is not None and python_of(built.folder).exists()
        assert environments.unused(time.time() - 60) == []
    os.utime(built.folder / ".complete", (1, 1))
    assert environments.unused(time.time() - 60) == [built.folder]
    assert environments.drop(built.folder, time.time() - 60) and not built.folder.exists()
