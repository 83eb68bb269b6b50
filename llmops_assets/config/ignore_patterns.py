"""The patterns of `ci.ignore`: those of .gitignore, matched by pathspec.

pathspec compiles them to regular expressions, and a project writes them. RE2 matches them in linear time; with Python's
engine `*a*a*a*a*a*b` takes minutes on one long name, in the sensor of all projects.
"""

import re
from collections.abc import Iterable

from pathspec import GitIgnoreSpec

from llmops_assets.domain.formatting import quoted

MAX_PATTERN = 500
REMEDY = "write it as in .gitignore, such as docs/** or *.md"


def check_pattern(pattern: str) -> str:
    """Returns the pattern.

    Raises:
        ValueError: it is invalid, or cannot match any file.
    """
    import re2

    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"{quoted(pattern)} is longer than {MAX_PATTERN} characters; {REMEDY}")
    try:
        parsed = ignoring([pattern]).patterns
    except (ValueError, re.error, re2.error) as error:
        detail = f" ({error})" if isinstance(error, re.error) else ""
        raise ValueError(f"{quoted(pattern)} is not a pattern{detail}; {REMEDY}") from error
    # Git and pathspec skip comments, empty lines and unclosed brackets: for the user a pattern without effect.
    if not any(p.include is not None for p in parsed):
        raise ValueError(f"{quoted(pattern)} cannot match any file; {REMEDY}")
    return pattern


def ignoring(patterns: Iterable[str]) -> GitIgnoreSpec:
    """Compiled once for many paths: `ignoring(patterns).match_file(path)`."""
    return GitIgnoreSpec.from_lines(patterns, backend="re2")
