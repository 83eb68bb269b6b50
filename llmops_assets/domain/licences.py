"""Licences against the list that a project allows: of its base model, and of the packages in its lock. Pure.

Licences are SPDX expressions. A package that states none in its metadata is unknown, and unknown is not allowed.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field

from llmops_assets.domain.models import Frozen, Strict

MOST_NAMED = 10
"""Packages that a verdict names."""
PackageName = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
LicenceName = Annotated[str, Field(min_length=1, max_length=100)]
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


def why_not(stated: str | None, allow: Collection[str], key: str = "ci.licences.allow") -> str | None:
    """Why a licence is not allowed; None if it is.

    Args:
        key: what allows them, for the message.
    """
    expression = expression_of(stated) if stated else None
    if expression is None:
        return f"its licence is unknown{f' ({stated[:80]!r})' if stated else ''}"
    return None if is_allowed(expression, allow) else f"its licence {expression} is not in {key}"


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


class LicencesFound(Frozen):
    """The licences of a commit, as stated, for conditions that may change later."""

    base_model: str = Field(default="", description="Empty: not stated.")
    packages: dict[str, str] = Field(
        default_factory=dict, description="Package of the lock -> what its metadata state; empty: nothing."
    )
    unknown: str = Field(default="", description="Why those of the lock's packages are not known; empty: they are.")


class LicenceFloor(Strict):
    """The licences that no commit may go beyond."""

    allow: tuple[LicenceName, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Names of SPDX, as in ci.licences.allow, which can only name fewer. An unknown licence is not "
        "allowed. None: every licence.",
    )
    packages: dict[PackageName, str] = Field(
        default_factory=dict,
        description="Package -> its licence, where its metadata do not state it. What llmops.yaml says of a package "
        "(ci.licences.packages) does not count for the floor.",
    )

    def __hash__(self) -> int:
        return hash((self.allow, *sorted(self.packages.items())))  # settings of projects are keys of caches


def stricter_licences(one: LicenceFloor, other: LicenceFloor) -> LicenceFloor:
    """The floor that holds where both do."""
    packages = {**one.packages, **other.packages}
    if one.allow is None or other.allow is None:
        return LicenceFloor.model_construct(allow=other.allow if one.allow is None else one.allow, packages=packages)
    # Not validated: the two may have nothing in common, and then nothing is allowed.
    common = tuple(name for name in one.allow if not beyond((name,), other))
    return LicenceFloor.model_construct(allow=common, packages=packages)


def beyond(allow: Collection[str], floor: LicenceFloor) -> tuple[str, ...]:
    """The names of a list that a floor does not allow."""
    known = None if floor.allow is None else {name.casefold() for name in floor.allow}
    return () if known is None else tuple(name for name in allow if name.casefold() not in known)


def judge_licences(found: LicencesFound | None, floor: LicenceFloor) -> tuple[str, ...]:
    """What of a commit's licences a floor does not allow, each as text.

    Args:
        found: None: the report is of a version that did not record them.
    """
    if floor.allow is None:
        return ()
    if found is None:
        return ("licences: not recorded in this report; make it again: `llmops run --rebuild ci_report`",)
    return tuple(f"licences: {text}" for text in _beyond_floor(found, floor.allow, floor.packages))


def _beyond_floor(found: LicencesFound, allow: Collection[str], known: Mapping[str, str]) -> Iterator[str]:
    key = "policy.licences.allow of the settings"
    if why := why_not(found.base_model or None, allow, key):
        yield f"the base model: {why}" + ("" if found.base_model else "; state it as model.license")
    if found.unknown:
        yield found.unknown
    stated = ((name, known.get(name, licence)) for name, licence in sorted(found.packages.items()))
    wrong = [f"{name}: {why}" for name, licence in stated if (why := why_not(licence or None, allow, key))]
    yield from wrong[:MOST_NAMED]
    if len(wrong) > MOST_NAMED:
        yield f"{len(wrong) - MOST_NAMED} more packages whose licence is not allowed"
