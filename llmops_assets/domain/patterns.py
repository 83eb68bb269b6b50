"""Regular expressions that a project writes, matched by RE2 in time linear in the text.

Python's own engine backtracks: `(a+)+$` takes minutes on forty letters, in a process that serves all projects. RE2 has
no lookarounds and no backreferences; where it reads other syntax differently from Python, the pattern is translated, so
that a pattern means what it means in Python.
"""

import re
from functools import lru_cache
from typing import Any

from llmops_assets.domain.formatting import excerpt

MAX_PATTERN = 2_000
_UNICODE = {"d": r"\p{Nd}", "w": r"\p{L}\p{N}_", "s": r"\t-\r\x{1c}-\x{20}\x{85}\p{Z}"}
"""What \\d, \\w and \\s match in Python; RE2's match ASCII only, and answers are in any language."""
_TOKEN = re.compile(r"\\.|\[|\]|\{,(?=\d*\})|\$", re.DOTALL)


class PatternError(ValueError):
    """Not a regular expression, or one that RE2 does not support; the message has the reason."""


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """The compiled pattern; its `search(text)` returns a match or None.

    Raises:
        PatternError: with the reason and the remedy.
    """
    import re2

    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"a regular expression has at most {MAX_PATTERN:,} characters, not {len(pattern):,}")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(translated(pattern), options)
    except (re2.error, UnicodeError) as error:
        said = error.args[0] if error.args else error
        said = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise PatternError(
            f"not a regular expression: {excerpt(said, 200)}. Lookarounds, backreferences and repeats above 1000 are "
            "not supported (https://github.com/google/re2/wiki/Syntax); what must not occur belongs in does_not_match"
        ) from error


def occurs(pattern: str, text: str) -> bool:
    """Whether a pattern matches anywhere in a text.

    Raises:
        PatternError: as `compiled`.
    """
    # An answer that a limit cut off can end in half of a character, which RE2's UTF-8 cannot hold.
    return compiled(pattern).search(text.encode(errors="replace").decode()) is not None


def translated(pattern: str) -> str:
    """The pattern in RE2's syntax, where that differs from Python's."""
    each_line = re.search(r"\(\?[a-zA-Z]*m", pattern) is not None
    opened: int | None = None
    """Where the set of characters began that the token belongs to."""

    def one(found: re.Match[str]) -> str:
        nonlocal opened
        text, inside = found[0], opened is not None
        if text.startswith("\\"):
            return _escape(text, inside)
        if text == "[":
            opened = opened if inside else found.start()
            return "\\[" if inside else text
        if text == "]" and opened is not None:
            first = pattern[opened + 1 : found.start()] in ("", "^")  # there it is a character of the set
            opened = opened if first else None
        elif text == "$" and not (inside or each_line):
            return r"(?:\n?\z)"  # Python's also matches before a last line feed
        elif text == "{," and not inside:
            return "{0,"
        return text

    return _TOKEN.sub(one, pattern)


def _escape(text: str, inside: bool) -> str:
    name = text[1:]
    if name in _UNICODE:
        return _UNICODE[name] if inside else f"[{_UNICODE[name]}]"
    if name.lower() in _UNICODE and not inside:
        return f"[^{_UNICODE[name.lower()]}]"
    return r"\z" if name == "Z" and not inside else text
