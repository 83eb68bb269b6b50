"""Texts of other people in Markdown: rows, commits and configurations, of which none may become markup. Pure."""

import re

from llmops_assets.domain.formatting import excerpt

_SPECIAL = re.compile(r"[\\`*_\[\]!|~]|^[#+=\-]")


def escaped(text: str, limit: int = 400) -> str:
    """The text on one line, shortened, in which nothing is markup: no cell of a table, link, image or HTML."""
    plain = excerpt(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\g<0>", plain)


def fenced(text: str, language: str = "") -> str:
    """The text as a code block, in a fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
