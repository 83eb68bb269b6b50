"""Runs Git's command line. The only place that sets its environment: no prompts, English, no caller's repository."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from llmops_assets.machine.redaction import redacted
from resources.project_source.errors import SourceError

_OF_A_CALLER = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
"""Set by Git for its hooks: inside a hook, our commands would use the caller's repository."""


class GitError(SourceError):
    """A git command failed; `stderr` is Git's output, None after a timeout."""

    def __init__(self, message: str, stderr: str | None = None):
        super().__init__(message)
        self.stderr = redacted(stderr) if stderr is not None else None


def environment() -> dict[str, str]:
    """Git's environment."""
    env = {k: v for k, v in os.environ.items() if k not in _OF_A_CALLER}
    # A checkout leaves Git LFS pointers as they are: `elsewhere` says what a project that needs them has to do.
    return env | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_LFS_SKIP_SMUDGE": "1"}


def git(
    *args: str, where: Path | None = None, timeout: float | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Runs a git command; returns its output without trailing newlines.

    Args:
        args: of git, without credentials: every user can list them.
        where: the folder to run it in; None: the current one.
        timeout: seconds; None: no limit.
        env: variables in addition, such as those in which Git finds credentials.

    Raises:
        GitError: it failed, or did not answer in time.
        SourceError: Git is not installed.
    """
    try:
        done = subprocess.run(
            ["git", *args],
            cwd=where,
            env={**environment(), **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        # Not `from error`: it contains the command, which may have a URL with a password.
        raise GitError(f"git {args[0]} did not answer within {timeout:g} s") from None
    except FileNotFoundError as error:
        raise SourceError("git: not found; install it and try again") from error
    if done.returncode:
        stderr = done.stderr.strip()
        raise GitError(f"git {args[0]} in {where or Path.cwd()}: {stderr or 'failed'}", stderr)
    return done.stdout.rstrip("\n")
