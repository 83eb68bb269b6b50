"""The patterns of `ci.ignore`: those of .gitignore, matched by pathspec."""

import re
from collections.abc import Iterable

from pathspec import GitIgnoreSpec

REMEDY = "write it as in .gitignore, such as docs/** or *.md"


def check_pattern(pattern: str) -> str:
    """Returns the pattern.

    Raises:
        ValueError: it is invalid, or cannot match any file.
    """
    try:
        parsed = GitIgnoreSpec.from_lines([pattern]).patterns
    except (ValueError, re.error) as error:
        detail = f" ({error})" if isinstance(error, re.error) else ""
        raise ValueError(f"{pattern!r} is not a pattern{detail}; {REMEDY}") from error
    # Git and pathspec skip comments, empty lines and unclosed brackets: for the user a pattern without effect.
    if not any(p.include is not None for p in parsed):
        raise ValueError(f"{pattern!r} cannot match any file; {REMEDY}")
    return pattern


def ignoring(patterns: Iterable[str]) -> GitIgnoreSpec:
    """Compiled once for many paths: `ignoring(patterns).match_file(path)`."""
    return GitIgnoreSpec.from_lines(patterns)
