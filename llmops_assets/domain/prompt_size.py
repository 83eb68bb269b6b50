"""Bounds the size that a prompt template can render to, from its parsed form and without rendering it.

A template has no loops, so only `replace` grows its input: ten times `replace('a', 'aaaaaaaaaa')` in a row make 10 GB
of one letter, in each process that renders the prompt: the code location of all projects, training, and the engine.
The bound is a property of the template, so it holds for all of them. Which constructs a template may use at all belongs
in `llmops_assets.domain.prompt`.
"""

from typing import Any, NamedTuple

MAX_GROWTH = 100
"""Bytes of the rendered prompt for each byte of the input: enough to escape a few characters in turn."""
MAX_FIXED = 256 * 1024
"""Bytes of the rendered prompt that do not depend on the input."""


class TooLarge(ValueError):
    """A template could render to an unreasonable size; `line` is where."""

    def __init__(self, problem: str, line: int):
        super().__init__(problem)
        self.line = line


class Size(NamedTuple):
    """An upper bound in bytes: `times` for each byte of the input, and `fixed`."""

    times: float
    fixed: float

    def of(self, text: str) -> float:
        return self.times * bytes_of(text) + self.fixed


def bytes_of(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def largest(node: Any) -> Size:
    """The largest size of a node of Jinja's tree, whose nodes `prompt` has checked.

    Raises:
        TooLarge: it, or a part of it, exceeds a limit.
    """
    found = _largest(node)
    line = node.lineno or 1
    if found.times > MAX_GROWTH:
        raise TooLarge(f"the prompt could be {found.times:,.0f} times as long as its input (limit {MAX_GROWTH})", line)
    if found.fixed > MAX_FIXED:
        raise TooLarge(f"it could render to {found.fixed:,.0f} bytes without any input (limit {MAX_FIXED:,})", line)
    return found


def _largest(node: Any) -> Size:
    kind = type(node).__name__
    if kind == "Name":
        return Size(1, 0)
    if kind in ("Const", "TemplateData"):
        return Size(0, bytes_of(node.value if kind == "Const" else node.data))
    if kind in ("Compare", "Not"):
        _either(largest(child) for child in node.iter_child_nodes())
        return Size(0, len("False"))
    if kind == "Filter" and node.name == "replace":
        inner, (old, new) = largest(node.node), (bytes_of(a.value) for a in node.args)
        growth = max(1.0, new / old)
        return Size(inner.times * growth, inner.fixed * growth)
    if kind == "If":
        largest(node.test)
        branches = (_sum(largest(child) for child in body) for body in (node.body, node.else_))
        return _either([*branches, *(largest(other) for other in node.elif_)])
    if kind in ("Filter", "CondExpr", "And", "Or"):
        return _either(largest(child) for child in node.iter_child_nodes())
    if kind == "Operand":
        return largest(node.expr)
    return _sum(largest(child) for child in node.iter_child_nodes())  # Template, Output, Concat


def _sum(sizes: Any) -> Size:
    found = list(sizes)
    return Size(sum(s.times for s in found), sum(s.fixed for s in found))


def _either(sizes: Any) -> Size:
    found = list(sizes)
    return Size(max((s.times for s in found), default=0), max((s.fixed for s in found), default=0))
