"""Which files of a project its image is built from: those in Git below the context that .dockerignore does not name.

The stage's key covers these files, and the program `image` shows the builder nothing else.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from pathspec import GitIgnoreSpec

from llmops_assets.config.ignore_patterns import MAX_PATTERN, ignoring
from llmops_assets.domain.formatting import quoted

IGNORE = ".dockerignore"


class BadPattern(ValueError):
    """A line of .dockerignore is no pattern; `line` is from 1."""

    def __init__(self, message: str, line: int):
        super().__init__(message)
        self.line = line


def ignore_file(files: Iterable[str] | Mapping[str, str], context: str, dockerfile: str) -> str | None:
    """The ignore file that counts: the Dockerfile's own, such as train.Dockerfile.dockerignore, else the context's."""
    there = set(files)
    own, common = f"{dockerfile}{IGNORE}", str(PurePosixPath(context) / IGNORE)
    return own if own in there else common if common in there else None


def context_files(files: Iterable[str], context: str, dockerfile: str, ignored: str) -> list[str]:
    """The project's files that the build sees; the Dockerfile and its ignore file are always among them.

    Args:
        files: all of the project's.
        ignored: the text of the ignore file; empty if there is none.

    Raises:
        BadPattern: a line of it is invalid.
    """
    every = sorted(files)
    prefix = "" if context == "." else f"{context}/"
    spec, always = _compiled(ignored), {dockerfile, ignore_file(every, context, dockerfile)}
    inside = (p for p in every if p.startswith(prefix) and not spec.match_file(p.removeprefix(prefix)))
    return sorted({*inside, *(p for p in every if p in always)})


def _compiled(text: str) -> GitIgnoreSpec:
    return ignoring(pattern for _, pattern in _patterns(text))


def _patterns(text: str) -> Iterator[tuple[int, str]]:
    """.dockerignore as patterns of .gitignore: Docker's begin at the context's root, and a trailing / has no effect."""
    import re2

    for number, line in enumerate(text.splitlines(), start=1):
        words = line.strip().removeprefix("\ufeff")
        if not words or line.startswith("#"):
            continue
        sign = "!" if words.startswith("!") else ""
        path = words[len(sign) :].strip()
        clean = posixpath.normpath(f"/{path.lstrip('/')}") if path else ""
        if clean in ("", "/"):
            continue  # Docker ignores it too
        pattern = f"{sign}{clean}"
        if len(pattern) > MAX_PATTERN:
            raise BadPattern(f"{quoted(words)} is longer than {MAX_PATTERN} characters", number)
        try:
            parsed = ignoring([pattern]).patterns
        except (ValueError, re.error, re2.error) as error:
            raise BadPattern(f"{quoted(words)} is no pattern: {error}", number) from error
        if not any(p.include is not None for p in parsed):
            raise BadPattern(f"{quoted(words)} is no pattern", number)
        yield number, pattern
