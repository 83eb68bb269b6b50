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
from llmops_assets.domain.records import Check
from resources.project_environments.environments import ProjectEnvironments, python_of
from resources.project_environments.requirements import requirements_of
from resources.project_environments.uv import NotBuilt
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


def test_without_a_lock_or_if_it_cannot_be_used_they_run_in_ours_and_it_says_so(
    environments: ProjectEnvironments, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/test_it.py").write_text("def test_a() -> None:\n    pass\n")
    seen = ci(tmp_path / "tree", tmp_path / "one", environments)
    assert seen["tests"].passed and "our own environment: the project has neither" in seen["environment"].summary
    (tmp_path / "tree/requirements.txt").write_text(f"# pins\n-e . {HASH}\n")
    seen = ci(tmp_path / "tree", tmp_path / "two", environments)
    (found,) = seen["environment"].findings
    assert seen["tests"].passed and not seen["environment"].passed and seen["environment"].severity == "warn"
    assert (found.file, found.line, found.severity) == ("requirements.txt", 2, "warn")


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
    (tmp_path / "requirements.txt").write_text(f"six==1.16.0 {HASH}\n")
    with pytest.raises(NotBuilt, match="uv pip failed"), environments.of(tmp_path):
        pass
    (tmp_path / "requirements.txt").write_text("six==1.16.0\n")
    with environments.of(tmp_path) as found:
        assert found is None, "a file without digests is no lock"
    with environments.of(tmp_path, ignore=["requirements.txt"]) as found:
        assert found is None


def test_one_that_is_not_used_is_dropped_and_one_in_use_is_not(locked: Path, environments: ProjectEnvironments) -> None:
    with environments.of(locked) as built:
        assert built is not None and python_of(built.folder).exists()
        assert environments.unused(time.time() - 60) == []
    os.utime(built.folder / ".complete", (1, 1))
    assert environments.unused(time.time() - 60) == [built.folder]
    assert environments.drop(built.folder, time.time() - 60) and not built.folder.exists()
