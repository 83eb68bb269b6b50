"""`.pre-commit-hooks.yaml`: the real pre-commit runs both hooks in a project's repository, offline."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.projects import Project

HOOKS = Path(__file__).parents[2] / ".pre-commit-hooks.yaml"
BIN = Path(sys.executable).parent
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def hooked(project: Project, tmp_path: Path) -> Run:
    """A project that takes our hooks from a repository; runs a command in it, offline and without a home."""
    ours = tmp_path / "llmops-assets"
    ours.mkdir()
    shutil.copy(HOOKS, ours)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LLMOPS_", "GIT_"))}
    env |= {"PATH": f"{BIN}:{env['PATH']}", "PRE_COMMIT_HOME": str(tmp_path / "cache"), "COLUMNS": "200"}
    env |= {"LLMOPS_HOME": str(tmp_path / "home"), "HTTPS_PROXY": "http://127.0.0.1:9", "PIP_NO_INDEX": "1"}
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")

    def run(*words: str, cwd: Path = project.folder) -> tuple[int, str]:
        done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    for words in (("init", "--quiet"), ("add", "--all"), (*identity, "commit", "--quiet", "--message", "Hooks")):
        code, said = run("git", *words, cwd=ours)
        assert code == 0, said
    rev = run("git", "rev-parse", "HEAD", cwd=ours)[1].strip()
    hooks = [{"id": hook["id"]} for hook in yaml.safe_load(HOOKS.read_text())]
    config = {"repos": [{"repo": str(ours), "rev": rev, "hooks": hooks}]}
    project.write(".pre-commit-config.yaml", yaml.safe_dump(config))
    project.commit("Hooks")
    code, said = run("pre-commit", "install", "--hook-type", "pre-commit", "--hook-type", "pre-push")
    assert code == 0, said
    return run


def test_a_commit_with_a_broken_configuration_is_refused_and_a_good_one_is_made(project: Project, hooked: Run) -> None:
    before = project.head
    broken = project.folder / "llmops.yaml"
    good = broken.read_text()
    broken.write_text(good + "gatez: []\n")
    code, said = hooked("git", "commit", "--quiet", "--all", "--message", "Broken")
    assert code == 1 and "llmops check" in said and "gatez: unknown key; did you mean 'gates'?" in said
    assert project.head == before
    broken.write_text(good + "on_newer: cancel\n")
    code, said = hooked("git", "commit", "--quiet", "--all", "--message", "Good")
    assert code == 0 and "Passed" in said and project.head != before
    assert "llmops ci" not in said, "the project's tests run before a push, not at each commit"


def test_a_push_whose_tests_fail_is_refused(project: Project, hooked: Run) -> None:
    project.write("tests/test_sums.py", "def test_sum():\n    assert 2 + 2 == 5\n")
    hooked("git", "add", "--all")
    hooked("git", "commit", "--quiet", "--no-verify", "--message", "Red")
    code, said = hooked("git", "push", "--quiet", "origin", "main")
    assert code == 1 and "llmops ci" in said and "tests/test_sums.py:2" in said
    code, listed = hooked("git", "ls-remote", "origin", "main")
    assert project.head not in listed
