"""The prompt: turns a client's plain input into the user turn that the model was trained on.

The template is composed *into* the model's chat template, so serving needs no extra hop and a prompt change is a
release like any other. White space around the template is stripped; white space in the input is kept.

transformers (Jinja) and llama.cpp (its own interpreter) must render it byte for byte alike. llama.cpp counts
bytes where Jinja counts characters (`length`, slices), leaves non-ASCII letters unchanged (`upper`, `title`), knows
only ASCII white space (`trim`), and cannot parse `{% raw %}` and `{%+`. So a prompt may contain text, the input, and
conditions; anything else belongs in the data. For the same reason its rendered size has a bound, see `prompt_size`.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llmops_assets.domain.formatting import excerpt, quoted
from llmops_assets.domain.prompt_size import Size, TooLarge, bytes_of, largest

if TYPE_CHECKING:  # importing Jinja is a tenth of the location's load time, and loading renders nothing
    from jinja2.sandbox import ImmutableSandboxedEnvironment

ALLOWED = "text, {{ input }}, if/elif/else, ==, !=, in, not, and, or, ~, and the filters replace and default"
MAX_TEMPLATE = 64 * 1024
"""Bytes of a template: more than the context of most models."""
MAX_DEPTH = 30
"""Levels of nesting; each filter of a chain is one. Python compiles no more than 100 levels of `if`."""
MAX_NODES = 2_000
"""Parts of the parsed template."""
MAX_RENDERED = 16 * 1024 * 1024
"""Bytes of a prompt that this module renders."""
_NODES = frozenset(
    [
        "Template",
        "Output",
        "TemplateData",
        "Name",
        "Const",
        "If",
        "CondExpr",
        "Compare",
        "Operand",
        "And",
        "Or",
        "Not",
        "Concat",
        "Filter",
    ]
)
_FILTERS = ("replace", "default")
_COMPARISONS = ("eq", "ne", "in", "notin")


class PromptError(ValueError):
    """The template cannot be served; the message says what is wrong and how to fix it."""


def _environment() -> "ImmutableSandboxedEnvironment":
    """The environment in which transformers renders chat templates, except that undefined variables are errors."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )


def _stripped(template: str) -> str:
    return template.replace("\r\n", "\n").replace("\r", "\n").strip()


def check_prompt(template: str) -> None:
    """Validates that a template renders from `input` alone, identically on every engine, and to a bounded size.

    Raises:
        PromptError: a syntax error, an undefined variable, a construct that engines render differently, a template that
            ignores its input, or one that can grow it too much.
    """
    render_prompt(template, "example")


@lru_cache(maxsize=64)
def _checked(template: str) -> Size:
    """The largest size that a valid template can render to.

    The template is parsed, not compiled: Jinja evaluates constant expressions when it compiles, `9 ** 9 ** 9` too.

    Raises:
        PromptError: as `check_prompt`.
    """
    from jinja2 import TemplateSyntaxError

    if bytes_of(template) > MAX_TEMPLATE:
        raise PromptError(f"it is larger than {MAX_TEMPLATE // 1024} KB; shorten it")
    env = _environment()
    text = _stripped(template)
    first = template[: len(template) - len(template.lstrip())].count("\n")  # report the file's line numbers
    try:
        tree = env.parse(text)
        strange = [(line + first, value) for line, kind, value in env.lex(text) if _is_strange(kind, value)]
        found = list(_walk(tree))
        _check_names(found)
        _check_arguments(found, env.filters)
        strange += [((node.lineno or 1) + first, name) for node in found if (name := _refused(node))]
        if strange:
            line, what = min(strange)
            raise PromptError(f"line {line}: engines render {what} differently; a prompt may use {ALLOWED}")
        if not any(type(node).__name__ == "Name" for node in found):
            raise PromptError("it does not use `input`, so every request would be the same; add {{ input }}")
        return largest(tree)
    except TemplateSyntaxError as error:
        raise PromptError(f"line {error.lineno + first}: {excerpt(error.message or 'syntax error')}") from error
    except TooLarge as error:
        raise PromptError(f"line {error.line + first}: {error}; simplify its replace filters") from error
    except PromptError:
        raise
    except ValueError as error:  # a number of several thousand digits
        raise PromptError(f"not a template: {excerpt(str(error))}") from error
    except RecursionError as error:
        raise PromptError(f"it is nested more than {MAX_DEPTH} levels deep; simplify it") from error


def _walk(tree: Any) -> Iterator[Any]:
    """All nodes, level by level: Jinja's own walk is recursive, and quadratic in the depth.

    Raises:
        TemplateSyntaxError: there are too many, or they are nested too deeply.
    """
    from jinja2 import TemplateSyntaxError

    level, count = [tree], 1
    for _ in range(MAX_DEPTH):
        yield from level
        level = [child for node in level for child in node.iter_child_nodes()]
        count += len(level)
        if not level:
            return
        if count > MAX_NODES:
            raise TemplateSyntaxError(f"it has more than {MAX_NODES:,} parts; simplify it", level[0].lineno or 1)
    raise TemplateSyntaxError(f"it is nested more than {MAX_DEPTH} levels deep; simplify it", level[0].lineno or 1)


def _check_names(found: list[Any]) -> None:
    names = [node for node in found if type(node).__name__ == "Name"]
    assigned = {node.name for node in names if node.ctx != "load"}  # that assignment is reported instead
    if unknown := sorted({node.name for node in names} - assigned - {"input"}):
        raise PromptError(
            f"undefined variable {', '.join(quoted(n) for n in unknown[:5])}; a prompt template may only use `input`, "
            "because a client sends nothing else"
        )


def _check_arguments(found: list[Any], known: Any) -> None:
    from jinja2 import TemplateSyntaxError

    for node in found:
        kind = type(node).__name__
        if kind == "Filter" and node.name not in known:
            raise TemplateSyntaxError(f"No filter named {quoted(node.name)}", node.lineno)
        if kind == "Filter" and node.name == "replace":
            texts = [a.value for a in node.args if type(a).__name__ == "Const" and isinstance(a.value, str)]
            others = node.kwargs or node.dyn_args or node.dyn_kwargs
            if not (len(texts) == len(node.args) == 2 and texts[0] and not others):
                raise TemplateSyntaxError(
                    "replace needs two texts in quotes, the first not empty, so that the size of the prompt is "
                    "known; write replace('old', 'new')",
                    node.lineno,
                )
        if kind == "Const" and isinstance(node.value, str) and any("\ud800" <= c <= "\udfff" for c in node.value):
            raise TemplateSyntaxError(f"{quoted(node.value)} is half of a character; write the character", node.lineno)


def _is_strange(kind: str, value: str) -> bool:
    return kind == "raw_begin" or (kind.endswith(("_begin", "_end")) and "+" in value)


def _refused(node: Any) -> str | None:
    """The display name of a node that a prompt may not contain; None if it may."""
    kind = type(node).__name__
    if kind == "Filter":
        return None if node.name in _FILTERS else f"the filter {node.name!r}"
    if kind == "Operand":
        return None if node.op in _COMPARISONS else f"the comparison {node.op!r}"
    if kind == "Const":
        return None if isinstance(node.value, str) else f"the constant {quoted(node.value)}"
    return None if kind in _NODES else f"{kind.lower()!r}"


def render_prompt(template: str, text: str) -> str:
    """The user turn for one input.

    Raises:
        PromptError: the template is not valid, cannot be rendered, or the result could be too large.
    """
    from jinja2.exceptions import TemplateError

    if _checked(template).of(text) > MAX_RENDERED:
        raise PromptError(f"the rendered prompt could exceed {MAX_RENDERED // 2**20} MB; shorten the input")
    try:
        return _environment().from_string(_stripped(template)).render(input=text)
    except (TemplateError, TypeError, ValueError, SyntaxError, RecursionError) as error:
        raise PromptError(f"cannot be rendered: {excerpt(str(error))}") from error


def compose_chat_template(template: str, chat_template: str) -> str:
    """A chat template that wraps every user turn in `template` and then continues with the model's own.

    The prefix rebuilds `messages` in a namespace, because a plain `set` inside a loop is lost after it. It ends with a
    block and a newline, which engines drop, so the model's template still starts at the beginning of a line.
    """
    return (
        "{%- set ns_prompt = namespace(msgs=[]) -%}"
        "{%- for m in messages -%}"
        "{%- if m['role'] == 'user' -%}"
        "{%- set input = m['content'] -%}"
        "{%- set wrapped -%}" + _stripped(template) + "{%- endset -%}"
        "{%- set ns_prompt.msgs = ns_prompt.msgs + [{'role': 'user', 'content': wrapped}] -%}"
        "{%- else -%}"
        "{%- set ns_prompt.msgs = ns_prompt.msgs + [m] -%}"
        "{%- endif -%}"
        "{%- endfor -%}"
        "{%- set messages = ns_prompt.msgs %}\n" + chat_template
    )
