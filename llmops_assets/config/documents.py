"""Reads text, YAML and JSON that other people wrote, within limits of size, depth and expansion.

A watched project, a base model or a copied folder can be broken or hostile, and one process reads the files of all
projects: 369 bytes of YAML aliases expanded to a message of 7 MB, and longer ones hung every project. Everything here
raises `DocumentError` only. Validation against a model belongs in `llmops_assets.config.yaml_validation`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from yaml._yaml import CParser
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from llmops_assets.domain.formatting import excerpt, quoted

CONFIG_BYTES = 256 * 1024
"""llmops.yaml, settings and smoke tests: a real one has 1 to 20 KB."""
PROMPT_BYTES = 64 * 1024
"""A prompt template: more than the context of most models."""
CODE_BYTES = 1024 * 1024
"""A Python file of a project."""
LABEL_BYTES = 16 * 1024 * 1024
"""Labelled pairs of answers: some hundred of 4 KB."""
DVC_BYTES = 1024 * 1024
"""A file that DVC writes: dvc.lock has about 200 bytes for each output."""
MODEL_CONFIG_BYTES = 4 * 1024 * 1024
"""config.json and tokenizer_config.json: some list a thousand added tokens."""
LARGE = 16 * 1024
"""Characters of YAML above which libyaml reads it."""
MAX_DEPTH = 40
"""Levels of nesting; llmops.yaml has 5, a model's config.json about 4."""
MAX_NUMBER = 100
"""Characters of a number or date."""


class DocumentError(ValueError):
    """A document cannot be read; `line` is where, if that is known."""

    def __init__(self, problem: str, line: int | None = None):
        super().__init__(problem)
        self.problem, self.line = problem, line


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; never more than the limit are read.

    Raises:
        DocumentError: it does not exist, is not a regular file, cannot be read, or is larger.
    """
    try:
        if not path.is_file():
            raise DocumentError("not a file" if path.exists() else "no such file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror}") from error
    check_size(len(data), limit)
    return data


def check_size(size: int, limit: int) -> None:
    """Refuses a document that is larger than its limit.

    Raises:
        DocumentError: with the remedy.
    """
    if size > limit:
        raise DocumentError(f"it is larger than {limit // 1024} KB, the limit for such a file; make it smaller")


def text_of(data: bytes) -> str:
    """UTF-8 text.

    Raises:
        DocumentError: it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DocumentError(f"it is not UTF-8 text (byte {error.start})") from error


def read_text(path: Path, limit: int) -> str:
    """The text of a regular file.

    Raises:
        DocumentError: as `read_file` and `text_of`.
    """
    return text_of(read_file(path, limit))


# -- YAML -----------------------------------------------------------------------------------------------------------


class _Bounds(Composer, SafeConstructor):
    """Limits on a safe loader, checked while it composes, before anything is expanded."""

    check_event: Callable[..., bool]
    peek_event: Callable[[], Any]

    def limit(self, text: str) -> None:
        self._most = 10 * len(text) + 10_000
        self._depth = 0
        self._sizes: dict[int, int] = {}
        """id of a complete node → its characters and nodes, aliases expanded."""
        self._written: dict[int, tuple[yaml.MappingNode, Any]] = {}
        """id of a mapping → it and its items as they are in the file, before keys are merged into it."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _problem(f"nested more than {MAX_DEPTH} levels deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None or (alias and id(node) in self._sizes):
            return node
        if alias:
            raise _problem("an alias refers to the value that contains it", mark)
        self._sizes[id(node)] = size = self._size(node)
        if size > self._most:
            raise _problem("its aliases expand to more than ten times the file", mark)
        return node

    def _size(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.SequenceNode):
            return 1 + sum(self._sizes[id(item)] for item in node.value)
        if isinstance(node, yaml.MappingNode):
            return 1 + sum(self._sizes[id(key)] + self._sizes[id(value)] for key, value in node.value)
        if node.tag.rsplit(":", 1)[-1] in ("int", "float", "timestamp") and len(node.value) > MAX_NUMBER:
            raise _problem(f"a number or date of more than {MAX_NUMBER} characters", node.start_mark)
        if "\0" in node.value or any("\ud800" <= c <= "\udfff" for c in node.value):
            raise _problem("a text with a character that cannot be stored (NUL or half of a pair)", node.start_mark)
        return 1 + len(node.value)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        self._written.setdefault(id(node), (node, node.value))
        node.value = list(node.value)
        super().flatten_mapping(node)

    def values_of(self, node: yaml.Node) -> Any:
        """The document's value; its nodes keep what is in the file."""
        value = self.construct_document(node)
        for mapping, items in self._written.values():
            mapping.value = items
        return value

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            # A scalar that only looks like a date, or has a tag that it does not fit, fails outside of PyYAML's errors.
            raise _problem(str(error) or f"not valid as {node.tag.rsplit(':', 1)[-1]}", node.start_mark) from error


class _Plain(_Bounds, yaml.SafeLoader):
    """PyYAML's own parser, which has the better messages."""

    def __init__(self, text: str):
        yaml.SafeLoader.__init__(self, text)
        self.limit(text)


class _Fast(_Bounds, CParser, Resolver):
    """libyaml's parser, which is five times as fast."""

    def __init__(self, text: str):
        CParser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self.limit(text)


def _problem(text: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=mark)


def parse_yaml(text: str) -> tuple[yaml.Node | None, Any]:
    """A YAML document: its root node, which has the lines, and its value. Both None if it is empty.

    Raises:
        DocumentError: it is not valid YAML, or exceeds a limit.
    """
    try:
        loader = (_Plain if len(text) <= LARGE else _Fast)(text)
        try:
            node = loader.get_single_node()
            return node, None if node is None else loader.values_of(node)
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = error.character if isinstance(error.character, str) else chr(error.character)
        raise DocumentError(f"not valid YAML: the character {quoted(found)} is not allowed", line) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = excerpt(error.problem or error.context or "no reason given", 200)
        raise DocumentError(f"not valid YAML: {said}", mark.line + 1 if mark else None) from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError) as error:
        raise DocumentError(f"not valid YAML: {excerpt(str(error), 200)}") from None


# -- JSON -----------------------------------------------------------------------------------------------------------


def parse_json(data: bytes | str, refuse: Callable[[str], Any] | None = None) -> Any:
    """A JSON value.

    Args:
        data: the document.
        refuse: called with NaN and infinities, which are not JSON; None: they are read.

    Raises:
        DocumentError: it is not valid JSON, or nested too deeply.
    """
    try:
        value = json.loads(data, parse_constant=refuse)
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise DocumentError(f"not valid JSON: {error.msg} at {at}", error.lineno) from error
    except RecursionError:
        raise DocumentError(f"not valid JSON: nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:  # a number of too many digits, or a constant that `refuse` refuses
        raise DocumentError(excerpt(str(error), 200)) from error
    if _deeper_than(value, MAX_DEPTH):
        raise DocumentError(f"not valid JSON: nested more than {MAX_DEPTH} levels deep")
    return value


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            item for v in level if isinstance(v, dict | list) for item in (v.values() if isinstance(v, dict) else v)
        ]
        if not level:
            return False
    return any(isinstance(v, dict | list) for v in level)


def parse_object(data: bytes | str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DocumentError: as `parse_json`, or it is another kind of value.
    """
    value = parse_json(data)
    if not isinstance(value, dict):
        kinds = {list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}
        raise DocumentError(f"expected a JSON object with keys, not {kinds.get(type(value), 'null')}")
    return value


def read_object(path: Path, limit: int = MODEL_CONFIG_BYTES) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        DocumentError: as `read_file` and `parse_object`.
    """
    return parse_object(read_file(path, limit))
