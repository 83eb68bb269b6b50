"""Validates YAML against a pydantic model; each problem names file, line, key and remedy."""

import difflib
from collections.abc import Iterator
from itertools import chain
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llmops_assets.config.documents import DocumentError, parse_yaml
from llmops_assets.domain.formatting import excerpt, quoted
from llmops_assets.machine.redaction import redacted

MOST_PROBLEMS = 20


class ConfigError(Exception):
    """A file that a user wrote is invalid. Each problem names what is wrong, where, and how to fix it, on one line.

    Messages appear in logs and in Dagster's UI, so long problems are shortened, and of many only the first are named.
    """

    def __init__(self, problems: list[str]):
        told = [excerpt(redacted(p), 1000) for p in problems[:MOST_PROBLEMS]]
        if len(problems) > MOST_PROBLEMS:
            told.append(f"and {len(problems) - MOST_PROBLEMS:,} more problems")
        super().__init__("\n".join(told))
        self.problems = told


M = TypeVar("M", bound=BaseModel)


def validate_yaml(model: type[M], text: str, where: str, wrap: str | None = None, context: str | None = None) -> M:
    """Validates YAML against a model; `wrap` puts a top-level list under that key first, `context` is for validators.

    Raises:
        ConfigError: every problem, each with file, line, key and remedy.
    """
    try:
        node, value = parse_yaml(text)
    except DocumentError as error:
        raise ConfigError([at(where, error)]) from error
    if twice := list(_keys_given_twice(node, where)):
        raise ConfigError(twice)
    prefix: tuple[str, ...] = ()
    if wrap and isinstance(value, list):
        value, prefix = {wrap: value}, (wrap,)
    if not isinstance(value, dict):
        raise ConfigError([f"{where}: it is {'empty' if value is None else 'not a mapping'}; expected keys and values"])
    try:
        return model.model_validate(value, context=context)
    except ValidationError as error:
        # A hostile file can hold many thousand mistakes; reporting more than these would delay all projects.
        found = error.errors(include_url=False)[: 5 * MOST_PROBLEMS]
        meant = {(e["loc"][:-1], _meant(model, e)) for e in found if e["type"] == "extra_forbidden"}
        # A misspelt key is one problem: the key that was meant is not reported as missing.
        told = [e for e in found if e["type"] != "missing" or (e["loc"][:-1], e["loc"][-1]) not in meant]
        # pydantic does not count invalid items: a list of them is not reported as too short.
        told = [
            e
            for e in told
            if e["type"] != "too_short" or [o["loc"][: len(e["loc"])] for o in told].count(e["loc"]) == 1
        ]
        problems = sorted((_problem(model, e, node, where, prefix) for e in told), key=lambda found: found[0])
        raise ConfigError(list(dict.fromkeys(text for _, text in problems))) from error


def at(where: str, error: DocumentError) -> str:
    """The problem of a document as text, with its file and line."""
    return f"{where}{f':{error.line}' if error.line else ''}: {error.problem}"


def _keys_given_twice(node: yaml.Node | None, where: str) -> Iterator[str]:
    """Reports duplicate keys, of which YAML silently uses the last."""
    left, seen = [node], set()
    while left:
        node = left.pop()
        if node is None or id(node) in seen:
            continue  # an alias refers to the same node
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                left.append(value)
                line = key.start_mark.line + 1
                name = key.value if isinstance(key, yaml.ScalarNode) else None
                if name is None or name == "<<":
                    continue
                if name in lines:
                    yield f"{where}:{line}: {name}: already given on line {lines[name]}; keep one of them"
                lines.setdefault(name, line)


def _meant(model: type[BaseModel], error: ErrorDetails) -> str | None:
    """The known key that is most similar to an unknown one, if any."""
    *parent, key = error["loc"]
    known = [k for k in _known_keys(model, parent) if k != str(key)]
    if len(str(key)) > 100:
        return None
    return next(iter(difflib.get_close_matches(str(key), known, n=1)), None)


def _problem(
    model: type[BaseModel], error: ErrorDetails, node: yaml.Node | None, where: str, skip: tuple[str, ...]
) -> tuple[int, str]:
    """Its line, 0 if it has none, and its text."""
    inside = getattr(error.get("ctx", {}).get("error"), "at", ())
    loc = [*error["loc"][len(skip) :], *inside]
    path, line = locate(node, loc)
    key = ".".join(str(p) for p in path)
    message = error["msg"].removeprefix("Value error, ")
    hidden = any(getattr(m, "hides_input", False) for m in chain.from_iterable(_reached(model, list(error["loc"]))))
    given = "" if hidden else f", not {quoted(error['input'])}"
    if error["type"] == "extra_forbidden":
        close = _meant(model, error)
        known = [k for k in _known_keys(model, list(error["loc"][:-1])) if k != str(path[-1])]
        message = "unknown key; " + (f"did you mean {close!r}?" if close else f"known here: {', '.join(known)}")
    elif error["type"] == "missing":
        message = "is missing; add it"
    elif error["type"] == "too_short":
        message = "it is empty; add at least one"
    elif error["type"] == "model_type":
        known = _known_keys(model, list(error["loc"]))
        message = (
            "a secret is not written here; put it into the environment and name the variable: {env: NAME}"
            if hidden
            else f"expected a mapping with {', '.join(known)}{given}"
        )
    elif error["type"] == "tuple_type":
        message = f"expected a list{given}"
    elif "input" in error and not isinstance(error["input"], dict | list | tuple) and error["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}{given}"
    return line or 0, f"{where}{f':{line}' if line else ''}: {key + ': ' if key else ''}{message}"


def locate(node: yaml.Node | None, loc: list[int | str]) -> tuple[list[int | str], int | None]:
    """The part of `loc` that exists in the file (pydantic adds names of union members), and its line."""
    path: list[int | str] = []
    line = node.start_mark.line + 1 if node is not None else None
    for depth, part in enumerate(loc):
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                if depth == len(loc) - 1:
                    path.append(part)  # a missing key: its parent's line
                continue
            line, node = found[0].start_mark.line + 1, found[1]
            path.append(part)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            path.append(part)
    return path, line


def _known_keys(model: type[BaseModel], path: list[int | str]) -> list[str]:
    """The keys that are allowed at a path."""
    return sorted({name for m in _reached(model, path)[-1] for name in m.model_fields})


def _reached(model: type[BaseModel], path: list[int | str]) -> list[list[type[BaseModel]]]:
    """The models that may stand at each part of a path, through lists and into the named member of a union."""
    reached = [[model]]
    for part in path:
        if isinstance(part, int):
            continue
        models = reached[-1]
        if named := [m for m in models if m.__name__ == part]:
            reached.append(named)
            continue
        annotations = [m.model_fields[str(part)].annotation for m in models if str(part) in m.model_fields]
        reached.append([m for a in annotations for m in _models_in(a)])
    return reached


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]
