"""Runs uv for a project without reading the project's configuration of uv; and the error of a build that failed."""

import re
import subprocess
from pathlib import Path

from llmops_assets.config.documents import DocumentError, read_text
from llmops_assets.machine.redaction import redacted
from resources.project_source.errors import SourceError

LOCK_BYTES = 16 * 2**20
READ_S = 60.0
"""Seconds that uv may take to read files of this machine."""
_UNREACHABLE = re.compile(
    r"error sending request|dns error|failed to lookup|tcp connect|connection (refused|reset|closed)|timed out|"
    r"network is unreachable|HTTP status server error|429 Too Many",
    re.IGNORECASE,
)
"""What uv says of an index that does not answer, which is no fault of the lock."""


class NotBuilt(Exception):
    """The project's lock cannot be used, and why."""

    def __init__(self, why: str, file: str, line: int = 1):
        super().__init__(why)
        self.why, self.file, self.line = why, file, line


class IndexUnreachable(SourceError):
    """The package index does not answer: another attempt may succeed."""


def line_of(lock: Path, said: str) -> int:
    """The line of a lock that a message is about: that of the first package which it names, else the first."""
    try:
        text = read_text(lock, LOCK_BYTES)
    except DocumentError:
        return 1
    if at := re.search(r"TOML parse error at line (\d+)", said):
        return int(at[1])
    named = r'name = "([^"]+)"' if lock.suffix == ".lock" else r"([A-Za-z0-9][A-Za-z0-9._-]*)"
    for number, line in enumerate(text.splitlines(), start=1):
        found = re.match(named, line)
        if found and re.search(rf"(?<![\w.-]){re.escape(found[1])}(?![\w-])", said, re.IGNORECASE):
            return number
    return 1


def run_uv(
    words: list[str], folder: Path, lock: Path, seconds: float, environment: dict[str, str] | None = None
) -> str:
    """Runs uv, without the configuration files that it would find in folders.

    Args:
        lock: the project's, for the message.
        environment: instead of ours, which may name an index and its credentials.

    Raises:
        NotBuilt: it failed.
        IndexUnreachable: it failed, because the index does not answer.
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
        raise IndexUnreachable(f"{lock.name}: uv {words[0]} did not end within {seconds:g} s") from None
    if done.returncode:
        said = " ".join(redacted(done.stderr).split())
        if _UNREACHABLE.search(said):
            raise IndexUnreachable(f"{lock.name}: the package index does not answer: {said[-600:]}")
        why = f"uv {words[0]} failed: {said[-600:] or f'exit code {done.returncode}'}"
        raise NotBuilt(why, lock.name, line_of(lock, said))
    return done.stdout
