"""What a project's lock names: packages with versions and digests, and nothing else."""

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from llmops_assets.config.documents import DocumentError, read_text
from llmops_assets.config.ignore_patterns import ignoring
from resources.project_environments.uv import LOCK_BYTES, READ_S, NotBuilt, line_of, run_uv

UV_LOCK, REQUIREMENTS = "uv.lock", "requirements.txt"
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[A-Za-z0-9._, -]*\])?\s*==\s*[A-Za-z0-9.!+_-]+\s*(;[^#\\]*?)?"
    r"(\s+--hash=sha256:[0-9a-f]{64})+"
)


def requirements_of(tree: Path, ignore: Sequence[str] = ()) -> tuple[str, str, int] | None:
    """The file, and its requirements as text for uv, and their number; None if the project has no lock.

    Raises:
        NotBuilt: it has one that cannot be used.
    """
    for name in (UV_LOCK, REQUIREMENTS):
        if not (tree / name).exists() or ignoring(ignore).match_file(name):
            continue
        try:
            text = read_text(tree / name, LOCK_BYTES)
        except DocumentError as error:
            raise NotBuilt(error.problem, name, error.line or 1) from error
        if name == UV_LOCK:
            text = _exported(tree, text)
        elif "--hash=" not in text:
            return None
        return name, *_checked(text, tree / name)
    return None


def _exported(tree: Path, lock: str) -> str:
    """A uv.lock as requirements. uv reads copies of two files, and resolves, fetches and builds nothing."""
    try:
        project = read_text(tree / "pyproject.toml", LOCK_BYTES)
    except DocumentError as error:
        raise NotBuilt(f"{UV_LOCK} needs a pyproject.toml: {error}", UV_LOCK) from error
    with tempfile.TemporaryDirectory(prefix="llmops-lock-") as copy:
        (Path(copy) / "pyproject.toml").write_text(project, encoding="utf-8")
        (Path(copy) / UV_LOCK).write_text(lock, encoding="utf-8")
        words = ("export", "--frozen", "--offline", "--no-emit-workspace", "--no-header", "--no-annotate")
        return run_uv([*words, "--python", sys.executable], Path(copy), tree / UV_LOCK, READ_S, environment={})


def _checked(text: str, lock: Path) -> tuple[str, int]:
    """The requirements, one a line, each of which has version and digests and nothing else.

    Args:
        text: of the lock, or what uv made of it.

    Raises:
        NotBuilt: one is something else, such as an address, a path or an option.
    """
    lines: list[str] = []
    logical, began = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        plain = re.sub(r"(^|\s)#.*", "", line).strip()
        began = began if logical else number
        logical += " " + plain.removesuffix("\\").strip()
        if plain.endswith("\\"):
            continue
        requirement, logical = logical.strip(), ""
        if not requirement:
            continue
        if not _REQUIREMENT.fullmatch(requirement):
            shown = requirement.split(" --hash")[0][:100]
            raise NotBuilt(
                f"{shown!r} is no package with a version (==) and digests (--hash=sha256:…); addresses, paths and "
                "options of the installer are not used",
                lock.name,
                line_of(lock, requirement) if lock.name == UV_LOCK else began,
            )
        lines.append(requirement)
    if logical.strip() or not lines:
        raise NotBuilt("it names no package" if not lines else "its last line is cut off", lock.name, max(1, began))
    return "\n".join(lines) + "\n", len(lines)
