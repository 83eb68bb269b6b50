"""Runs uv for a project without reading the project's configuration of uv; and the error of a build that failed."""

import subprocess
from pathlib import Path

from llmops_assets.machine.redaction import redacted

READ_S = 60.0
"""Seconds that uv may take to read files of this machine."""


class NotBuilt(Exception):
    """There is no environment, and why; `file` and `line` are the project's, if one is at fault."""

    def __init__(self, why: str, file: str = "", line: int | None = None):
        super().__init__(why)
        self.why, self.file, self.line = why, file, line


def run_uv(words: list[str], folder: Path, lock: str, seconds: float, environment: dict[str, str] | None = None) -> str:
    """Runs uv, without the configuration files that it would find in folders.

    Args:
        environment: instead of ours, which may name an index and its credentials.

    Raises:
        NotBuilt: it failed.
    """
    from uv import find_uv_bin

    command = [find_uv_bin(), "--no-config", "--quiet", "--no-progress", "--no-python-downloads", *words]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise NotBuilt(f"uv did not end within {seconds:g} s", lock) from None
    if done.returncode:
        said = " ".join(redacted(done.stderr).split())
        raise NotBuilt(f"uv {words[0]} failed: {said[-600:] or f'exit code {done.returncode}'}", lock)
    return done.stdout
