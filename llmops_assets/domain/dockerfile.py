"""Reads a Dockerfile as far as it must be known what it fetches, and at which line an instruction is. Pure.

The builder reads it properly; this reads it suspiciously. What could be an instruction for one version of the builder,
such as a line in a here-document, counts as one: a build that is refused by mistake names its line, and one that
fetches by mistake has already done so.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from llmops_assets.domain.formatting import quoted

_DIRECTIVE = re.compile(r"^(?:#|//)\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*$")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::?[-+][^}]*)?\}|([A-Za-z_][A-Za-z0-9_]*))")
_REMOTE = re.compile(r"(?i)^(?:[a-z][a-z0-9+.-]*:|//|git@|github\.com/)|\.git(?:$|[#?])")
_FLAG = re.compile(r"^--[a-z]")
REMEDY = "put the file into the repository, or have the operator set images.network"


@dataclass(frozen=True)
class Instruction:
    line: int
    """Where it begins, from 1."""
    name: str
    """In upper case."""
    text: str
    """Name and arguments on one line, with single spaces."""

    @property
    def words(self) -> list[str]:
        """The arguments, without the quotes and brackets of the JSON form."""
        return [word.strip("[]\"',") for word in self.text.split()[1:] if word.strip("[]\"',")]

    @property
    def flags(self) -> dict[str, str]:
        """Flags before the arguments; the last one counts."""
        return {w[2:].partition("=")[0]: w.partition("=")[2] for w in self.words if _FLAG.match(w)}

    @property
    def arguments(self) -> list[str]:
        return [word for word in self.words if not _FLAG.match(word)]


@dataclass(frozen=True)
class Problem:
    line: int
    message: str


def directives(text: str) -> dict[str, tuple[int, str]]:
    """Parser directives (`# syntax=`, `# escape=`) → line and value. They end at the first other line."""
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if number == 1 and line.startswith("#!"):
            continue
        match = _DIRECTIVE.match(line.strip())
        if match is None:
            break
        found.setdefault(match[1].lower(), (number, match[2]))
    return found


def instructions(text: str) -> list[Instruction]:
    """All instructions, continuation lines joined and comments left out."""
    escape = directives(text).get("escape", (0, "\\"))[1]
    found: list[Instruction] = []
    parts: list[str] = []
    began = 0
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        plain = line.strip()
        if plain.startswith("#") or not plain:
            continue
        began = began if parts else number
        continues = plain.endswith(escape)
        parts.append(plain.removesuffix(escape) if continues else plain)
        if not continues:
            found += _instruction(began, parts)
            parts = []
    return found + _instruction(began, parts)


def _instruction(line: int, parts: Sequence[str]) -> list[Instruction]:
    # A word may be cut anywhere (`AD\` and `D`), so nothing is put between the parts but what is there.
    words = "".join(parts).split()
    if not words:
        return []
    if words[0].upper() == "ONBUILD" and len(words) > 1:
        words = words[1:]
    return [Instruction(line, words[0].upper(), " ".join(words))]


def bases(text: str, args: Mapping[str, str]) -> list[tuple[int, str]]:
    """Images that the build takes from a registry: line and name, with variables replaced by their values."""
    stages: set[str] = set()
    values: dict[str, str] = {}
    found: list[tuple[int, str]] = []
    before_from = True
    for one in instructions(text):
        if one.name == "ARG" and before_from:
            for word in one.arguments:
                name, _, default = word.partition("=")
                values[name] = args.get(name, default.strip("\"'"))
        named = list(_images_of(one))
        if one.name == "FROM":
            before_from = False
        for image in named:
            full = _replaced(image, {**values, **args})
            if full.lower() not in stages and not full.isdigit() and full != "scratch":
                found.append((one.line, full))
        if one.name == "FROM" and len(words := one.arguments) >= 3 and words[1].upper() == "AS":
            stages.add(words[2].lower())
    return list(dict.fromkeys(found))


def _images_of(one: Instruction) -> Iterator[str]:
    if one.name == "FROM" and one.arguments:
        yield one.arguments[0]
    if one.name in ("COPY", "ADD") and (image := one.flags.get("from")):
        yield image
    if one.name == "RUN":
        for word in one.words:
            if word.startswith("--mount="):
                options = dict(part.partition("=")[::2] for part in word.removeprefix("--mount=").split(","))
                if image := options.get("from"):
                    yield image


def _replaced(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], match[0]), text)


def is_allowed_base(name: str, allowed: Sequence[str]) -> bool:
    """Whether a base image matches one of the patterns; without patterns, any may be used."""
    return not allowed or any(fnmatchcase(name, pattern) for pattern in allowed)


def from_line(text: str) -> int | None:
    """The line of the last FROM, from which the image is built; None if there is none."""
    return next((one.line for one in reversed(instructions(text)) if one.name == "FROM"), None)


def refused(text: str, args: Mapping[str, str], network: bool, allowed: Sequence[str]) -> list[Problem]:
    """What a Dockerfile of an untrusted project may not do here.

    Args:
        args: the build arguments.
        network: whether the build may use the network.
        allowed: patterns of base images; empty: any.
    """
    problems = [
        Problem(line, f"the base image {quoted(name)} is not one of those that are allowed ({', '.join(allowed)})")
        for line, name in bases(text, args)
        if not is_allowed_base(name, allowed)
    ]
    if (syntax := directives(text).get("syntax")) is not None:
        problems.append(Problem(syntax[0], "`# syntax=` runs a program from a registry; leave the line out"))
    if not network:
        seen: set[int] = set()
        for one in (*instructions(text), *_physical(text)):
            if one.name == "ADD" and one.line not in seen and (source := _remote_source(one, args)):
                seen.add(one.line)
                problems.append(
                    Problem(one.line, f"ADD fetches {quoted(source)}, and the build has no network; {REMEDY}")
                )
    return sorted(problems, key=lambda problem: problem.line)


def _physical(text: str) -> Iterator[Instruction]:
    """Each line by itself: an instruction for a builder that does not know the here-document around it."""
    for number, line in enumerate(text.splitlines(), start=1):
        yield from _instruction(number, [line.strip()])


def _remote_source(one: Instruction, args: Mapping[str, str]) -> str | None:
    for word in one.arguments:
        plain = word.strip("\"'")
        if _REMOTE.search(plain) or "$" in plain:
            return plain
    return None


def line_of(text: str, step: str) -> int | None:
    """The line of the instruction that the builder names in its log, such as `RUN pip install x`; None if unknown."""
    wanted = " ".join(step.split())
    known = instructions(text)
    for one in known:
        if one.text == wanted:
            return one.line
    # The builder replaces variables: the same instruction with the longest common beginning, if there is only one.
    name = wanted.split(" ", 1)[0].upper()
    alike = [(len(_common(one.text, wanted)), one.line) for one in known if one.name == name]
    alike.sort(reverse=True)
    if alike and alike[0][0] > len(name) + 1 and (len(alike) == 1 or alike[0][0] > alike[1][0]):
        return alike[0][1]
    return alike[0][1] if len(alike) == 1 else None


def _common(one: str, other: str) -> str:
    end = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:end]
