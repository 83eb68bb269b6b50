"""Creates the example's repository, as a team would own it: Git with a remote, DVC with a remote, one commit.

    python make_project.py FOLDER --remote GIT_REMOTE --dvc-remote DVC_REMOTE [--cache FOLDER]

Also makes the edits that people make later, each a real commit by the real tools. The repository's content is next to
this file; data and base model come from `make_data` and `make_base_model`.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from make_base_model import DEFAULT_CACHE, make_base_model
from make_data import MORE_PACKAGES, MORE_ROWS, TEST_ROWS, TRAIN_ROWS, add_rows, make_data

HERE = Path(__file__).resolve().parent
CONTENT = (
    *(".gitignore", "README.md", "llmops.yaml", "metrics.py", "pyproject.toml", "smoke_tests.yaml"),
    *("prompts", "tests"),
)
BRANCH = "main"
CUT_TOKENS = 10
FENCED_PROMPT = "Summarize this Python function in one line.\n\n```python\n{{ input }}\n```\n"


class ProjectError(RuntimeError):
    """A step failed; the message has the command and its output."""


def make_project(
    folder: Path,
    remote: Path,
    dvc_remote: Path,
    cache: Path = DEFAULT_CACHE,
    *,
    base: Path | None = None,
    train_rows: int = TRAIN_ROWS,
    test_rows: int = TEST_ROWS,
) -> str:
    """Creates a bare remote and a clone with the first commit; pushes data and base by DVC, but not the commit.

    Args:
        base: a model folder to use instead of SmolLM2.

    Returns:
        The SHA of the commit.
    """
    for path in (folder, remote):
        if path.exists() and any(path.iterdir()):
            raise ProjectError(f"{path} exists and is not empty; delete it or name another folder")
    remote.mkdir(parents=True, exist_ok=True)
    dvc_remote.mkdir(parents=True, exist_ok=True)
    _run(remote, "git", "init", "--quiet", "--bare", f"--initial-branch={BRANCH}")
    _run(remote, "git", "clone", "--quiet", str(remote.resolve()), str(folder.resolve()))
    _run(folder, "git", "symbolic-ref", "HEAD", f"refs/heads/{BRANCH}")
    for key, value in {
        "user.name": "Demo",
        "user.email": "demo@example.com",
        "commit.gpgsign": "false",
        "core.autocrlf": "false",
        "core.hooksPath": ".git/hooks",
    }.items():
        _run(folder, "git", "config", key, value)
    _fill(folder, cache, base, train_rows, test_rows)
    _say("dvc: adding and pushing data and base model")
    _dvc(folder, "init", "--quiet")
    (folder / ".dvc" / "config").write_text(_dvc_config(dvc_remote.resolve()), encoding="utf-8")
    _dvc(folder, "add", "--quiet", "data/train.jsonl", "data/test.jsonl", "models/base")
    _dvc(folder, "push", "--quiet")
    return commit(folder, "Summarize Python functions in one line")


def _fill(folder: Path, cache: Path, base: Path | None, train_rows: int, test_rows: int) -> None:
    for name in CONTENT:
        if (HERE / name).is_dir():
            shutil.copytree(HERE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        else:
            shutil.copyfile(HERE / name, folder / name)
    _say("data: from the docstrings of the standard library")
    make_data(folder / "data", train_rows=train_rows, test_rows=test_rows)
    if base is None:
        make_base_model(folder / "models" / "base", cache)
    else:
        shutil.copytree(base, folder / "models" / "base")


def _dvc_config(remote: Path) -> str:
    """The config file's text: each `dvc config` command would start an interpreter, for a second or two."""
    return (
        "[core]\n    analytics = false\n    remote = storage\n"
        '[cache]\n    type = "reflink,hardlink,copy"\n'
        f"['remote \"storage\"']\n    url = {remote}\n"
    )


def change_readme(folder: Path) -> str:
    """Documentation only: nothing is computed."""
    with (folder / "README.md").open("a", encoding="utf-8") as readme:
        readme.write("\nQuestions about this model go to the team's channel.\n")
    return commit(folder, "Say where to ask")


def change_serving_prompt(folder: Path) -> str:
    """The serving prompt only: evaluated and released again, not trained again."""
    (folder / "prompts" / "summarize.jinja").write_text(FENCED_PROMPT, encoding="utf-8")
    return commit(folder, "Show the code to the model in a fenced block")


def add_training_data(folder: Path, packages: Sequence[str] = MORE_PACKAGES, count: int = MORE_ROWS) -> str:
    """Adds training rows from installed packages; the test rows stay the same."""
    add_rows(folder / "data", packages, count)
    _dvc(folder, "add", "--quiet", "data/train.jsonl")
    _dvc(folder, "push", "--quiet")
    return commit(folder, f"Train on {', '.join(packages)} as well")


def train_too_little(folder: Path) -> str:
    """A training of a single step: it ends well, and the model is hardly better than its base model."""
    _edit(folder / "llmops.yaml", "epochs: 1", "max_steps: 1")
    return commit(folder, "Train in a minute less")


def cut_answers(folder: Path) -> str:
    """Reverts the last commit, and limits answers to a length that truncates many of them in mid-sentence."""
    revert_since(folder, "HEAD~1")
    limited = f"engine: llama.cpp\n  serving: {{max_tokens: {CUT_TOKENS}}}"
    _edit(folder / "llmops.yaml", "engine: llama.cpp", limited)
    return commit(folder, "Answer in fewer tokens")


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ProjectError(f"{file}: expected {old!r} once, found it {text.count(old)} times")
    file.write_text(text.replace(old, new), encoding="utf-8")


def commit(folder: Path, message: str) -> str:
    """Commits everything that changed.

    Raises:
        ProjectError: nothing changed.
    """
    _run(folder, "git", "add", "--all")
    if not _run(folder, "git", "status", "--porcelain"):
        raise ProjectError(f"{folder}: nothing changed, so there is nothing to commit as {message!r}")
    _run(folder, "git", "commit", "--quiet", "--message", message)
    return head(folder)


def push(folder: Path) -> str:
    """Pushes the branch to the Git remote."""
    _run(folder, "git", "push", "--quiet", "--set-upstream", "origin", BRANCH)
    return head(folder)


def revert_since(folder: Path, revision: str) -> str:
    """Reverts each commit after a revision with a new commit, and checks out the matching data."""
    _run(folder, "git", "revert", "--no-edit", f"{revision}..HEAD")
    _dvc(folder, "checkout", "--quiet")
    return head(folder)


def head(folder: Path) -> str:
    return _run(folder, "git", "rev-parse", "HEAD")


def _dvc(folder: Path, *arguments: str) -> str:
    return _run(folder, sys.executable, "-m", "dvc", *arguments)


def _run(folder: Path, *command: str) -> str:
    # Inside a Git hook these would make every command use the hook's repository.
    environment = {k: v for k, v in os.environ.items() if k not in {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}}
    environment |= {"DVC_NO_ANALYTICS": "1", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ProjectError(f"{error.filename}: not found; install it and try again") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ProjectError(f"`{' '.join(command)}` in {folder} failed with exit code {done.returncode}: {said}")
    return done.stdout.strip()


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the working clone to create")
    parser.add_argument("--remote", type=Path, required=True, help="the bare Git repository to create")
    parser.add_argument("--dvc-remote", type=Path, required=True, help="folder that stores the data")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where the base model is cached")
    arguments = parser.parse_args()
    try:
        sha = make_project(arguments.folder, arguments.remote, arguments.dvc_remote, arguments.cache)
    except RuntimeError as error:
        sys.exit(str(error))
    _say(f"done: {arguments.folder} at {sha[:12]}; `git push -u origin {BRANCH}` publishes it")


if __name__ == "__main__":
    main()
