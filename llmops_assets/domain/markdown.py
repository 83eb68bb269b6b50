"""Escapes text from rows, commits and configuration, so that Markdown shows it literally. Pure."""

import re
from collections.abc import Iterable, Sequence

from llmops_assets.domain.formatting import excerpt

_SPECIAL = re.compile(r"[\\`*_\[\]!|~]|^[#+=\-]")


def escaped(text: str, limit: int = 400) -> str:
    """The text on one line, shortened, in which nothing is markup: no cell of a table, link, image or HTML."""
    plain = excerpt(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\g<0>", plain)


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; the cells are Markdown already."""
    return [f"| {' | '.join(cells)} |" for cells in (heading, ["---"] * len(heading), *rows)]


def fenced(text: str, language: str = "") -> str:
    """The text as a code block, in a fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


_FENCED = re.compile(r"^(`{3,})[^\n]*\n.*?^\1$", re.MULTILINE | re.DOTALL)
_REFERENCE = re.compile(r"@(?=\w)|[#!](?=\d)|\bGH-(?=\d)|\bwww(?=\.)|(\\?\]\(https?)?://")
_SPLIT = "\u200b"


def without_references(text: str) -> str:
    """The Markdown in which nothing notifies people or links from an issue: for comments on a code host.

    A code host turns @name, #1, !1, GH-1 and bare addresses into references wherever they are displayed, also if they
    were escaped. An invisible space splits them. Links of `[text](URL)` and fenced code are left alone.
    """
    parts, at = [], 0
    for fence in _FENCED.finditer(text):
        parts += [_split(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, _split(text[at:])])


def _split(text: str) -> str:
    def split(found: re.Match[str]) -> str:
        if found[0].endswith("://"):
            linked = found[1] or ""
            return found[0] if linked.startswith("](") else f"{found[0][:-2]}{_SPLIT}//"
        return found[0] + _SPLIT

    return _REFERENCE.sub(split, text)
