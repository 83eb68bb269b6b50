"""Regular expressions that a project writes, matched by Rust's `regex` (in pydantic) in time linear in the text.

Python's own engine backtracks: `(a+)+$` takes minutes on forty letters, in a process that serves all projects. Rust's
has no lookarounds and no backreferences; where it reads other syntax differently from Python, the pattern is translated
or refused, so that a pattern means what it means in Python. The exceptions: `\\b` and `\\B` count a combining mark as
part of its word, and `\\B` matches an empty text, as in Python 3.14.
RE2 was tried: its `\\b` knows ASCII words only, and does not find `\\bété\\b` in "un été".
"""

import re
import warnings
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

from llmops_assets.domain.formatting import excerpt

MAX_PATTERN = 2_000
_UNICODE = {"d": r"\p{Nd}", "w": r"\p{L}\p{N}_", "s": r"\t-\r\x{1c}-\x{20}\x{85}\p{Z}"}
"""What \\d, \\w and \\s match in Python; Rust's \\w also matches combining marks."""
_TOKEN = re.compile(r"\\.|\[|\]|\{,(?=\d*\})|\$|[&~]|--|[*+?}]\+", re.DOTALL)
_SCOPED = re.compile(r"\(\?[a-zA-Z-]*[mx][a-zA-Z-]*:")
_OTHER_MEANING = {
    "--": r"write \- for a hyphen beside another one in a set of characters",
    "possessive": r"possessive repeats (a++) are not supported; write \} and \+ for these characters themselves",
    "scoped": "(?m:...) and (?x:...) are not supported; write (?m) at the start of the pattern",
    "verbose": "(?x) is not supported; write the pattern without spaces and comments",
}


class PatternError(ValueError):
    """Not a regular expression, or one that is not supported; the message has the reason."""


@lru_cache(maxsize=256)
def compiled(pattern: str) -> SchemaValidator:
    """The compiled pattern; its `isinstance_python(text)` says whether it matches anywhere in a text.

    Raises:
        PatternError: with the reason and the remedy.
    """
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"a regular expression has at most {MAX_PATTERN:,} characters, not {len(pattern):,}")
    try:
        pattern.encode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            python = re.compile(pattern)
        if python.flags & re.VERBOSE:
            raise PatternError(_OTHER_MEANING["verbose"])
        return SchemaValidator(core_schema.str_schema(pattern=translated(pattern), regex_engine="rust-regex"))
    except PatternError as error:
        raise PatternError(f"not a regular expression: {error}") from error
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(f"not a regular expression: {excerpt(str(error), 200)}") from error
    except (SchemaError, UnicodeError) as error:
        said = " ".join(str(error).rsplit("error:", 1)[-1].split())
        raise PatternError(
            f"not a regular expression: {excerpt(said, 200)}. Lookarounds, backreferences and "
            "very large repeats are not supported (https://docs.rs/regex/latest/regex/#syntax); what must not occur "
            "belongs in does_not_match"
        ) from error


def occurs(pattern: str, text: str) -> bool:
    """Whether a pattern matches anywhere in a text.

    Raises:
        PatternError: as `compiled`.
    """
    # An answer that a limit cut off can end in half of a character, which UTF-8 cannot hold.
    return compiled(pattern).isinstance_python(text.encode(errors="replace").decode())


def translated(pattern: str) -> str:
    """The pattern in Rust's syntax, where that differs from Python's.

    Raises:
        PatternError: Rust reads it differently, and it is not translated.
    """
    if _SCOPED.search(pattern):
        raise PatternError(_OTHER_MEANING["scoped"])
    each_line = re.match(r"\(\?[a-zA-Z]*m", pattern) is not None  # Python takes such flags at the start only
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
            return "\\]" if first else text
        if inside:
            if text == "--":
                raise PatternError(_OTHER_MEANING["--"])
            return "".join(f"\\{c}" if c in "&~" else c for c in text)
        if text == "$" and not each_line:
            return r"(?:\n?\z)"  # Python's also matches before a last line feed
        if text == "{,":
            return "{0,"
        if len(text) == 2 and text.endswith("+"):
            raise PatternError(_OTHER_MEANING["possessive"])
        return text

    return _TOKEN.sub(one, pattern)


def _escape(text: str, inside: bool) -> str:
    name = text[1:]
    if name in _UNICODE:
        return _UNICODE[name] if inside else f"[{_UNICODE[name]}]"
    if name.lower() in _UNICODE:
        return f"[^{_UNICODE[name.lower()]}]"
    if name in "<>":
        return name  # Rust's \\< is the start of a word
    if inside:
        return r"\x08" if name == "b" else text
    return {"Z": r"\z", "b": r"(?:\b)", "B": r"(?:\B)"}.get(name, text)  # \\b{start} has a meaning in Rust
