"""Licences against the list that a project allows: of its base model, and of the packages in its lock. Pure.

Licences are SPDX expressions. A package that states none in its metadata is unknown, and unknown is not allowed.
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

_ALIASES = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "3-clause bsd": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "modified bsd": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "the mit license": "MIT",
    "the mit license (mit)": "MIT",
    "mit no attribution license (mit-0)": "MIT-0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "mpl 2.0": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "psf license": "PSF-2.0",
    "gnu general public license v2 (gplv2)": "GPL-2.0-only",
    "gnu general public license v3 (gplv3)": "GPL-3.0-only",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "gnu affero general public license v3": "AGPL-3.0-only",
    "the unlicense (unlicense)": "Unlicense",
    "zope public license": "ZPL-2.1",
    "public domain": "LicenseRef-Public-Domain",
}
"""Names that packages use in `License` and in classifiers. What is ambiguous, such as "BSD", is not among them."""
_NAME = re.compile(r"[A-Za-z0-9.+-]+")
_LONGEST = 200


def expression_of(stated: str) -> str | None:
    """An SPDX expression from a licence as a package or model states it; None if it is not clear."""
    text = " ".join(stated.split())
    if not text or len(text) > _LONGEST:
        return None
    if alias := _ALIASES.get(text.lower().removesuffix(" license") if text.lower() not in _ALIASES else text.lower()):
        return alias
    words = re.split(r"\s+(?:and|or|with)\s+", text.replace("(", " ").replace(")", " ").strip(), flags=re.IGNORECASE)
    return text if all(_NAME.fullmatch(word.strip()) for word in words) and _parsed(text) is not None else None


@lru_cache(maxsize=512)
def _parsed(expression: str) -> Any:
    from license_expression import ExpressionError, Licensing

    try:
        return Licensing().parse(expression)
    except (ExpressionError, AttributeError):
        return None


def is_allowed(expression: str, allow: Collection[str]) -> bool:
    """Whether an expression is allowed: one side of an OR, both sides of an AND."""
    known = {name.casefold() for name in allow}

    def holds(node: Any) -> bool:
        operator = getattr(node, "operator", "").strip().upper()
        if operator in ("AND", "OR"):
            return (all if operator == "AND" else any)(holds(part) for part in node.args)
        return str(node).casefold() in known

    parsed = _parsed(expression)
    return parsed is not None and holds(parsed)


def why_not(stated: str | None, allow: Collection[str]) -> str | None:
    """Why a licence is not allowed; None if it is."""
    expression = expression_of(stated) if stated else None
    if expression is None:
        return f"its licence is unknown{f' ({stated[:80]!r})' if stated else ''}"
    return None if is_allowed(expression, allow) else f"its licence {expression} is not in ci.licences.allow"


def stated_licence(metadata: Mapping[str, list[str]]) -> str | None:
    """What the metadata of a Python package state: the expression, else the text if it is clear, else the classifiers.

    Args:
        metadata: header in lower case → its values.
    """
    if expression := next(iter(metadata.get("license-expression", ())), None):
        return expression
    text = next(iter(metadata.get("license", ())), None)
    if text and expression_of(text):
        return text
    names = [c.split(" :: ")[-1] for c in metadata.get("classifier", ()) if c.startswith("License :: ")]
    named = [expression for name in names if name != "OSI Approved" and (expression := expression_of(name))]
    if named and len(named) == len([n for n in names if n != "OSI Approved"]):
        return " AND ".join(sorted(set(named)))
    return text or " AND ".join(names) or None
