"""The prompt: turns a client's plain input into the user turn that the model was trained on.

The template is composed *into* the model's chat template, so serving needs no extra hop and a prompt change is a
release like any other. White space around the template is stripped; white space in the input is kept.

transformers (Jinja) and llama.cpp (its own interpreter) must render it byte for byte alike. llama.cpp counts
bytes where Jinja counts characters (`length`, slices), leaves non-ASCII letters unchanged (`upper`, `title`), knows
only ASCII white space (`trim`), and cannot parse `{% raw %}` and `{%+`. So a prompt may contain text, the input, and
conditions; anything else belongs in the data.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing Jinja is a tenth of the location's load time, and loading renders nothing
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

ALLOWED = "text, {{ input }}, if/elif/else, ==, !=, in, not, and, or, ~, and the filters replace and default"
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
    """Validates that a template renders from `input` alone, and identically on every engine.

    Raises:
        PromptError: a syntax error, an undefined variable, a construct that engines render differently, or a template
            that ignores its input.
    """
    from jinja2 import TemplateSyntaxError, meta, nodes

    env = _environment()
    text = _stripped(template)
    first = template[: len(template) - len(template.lstrip())].count("\n")  # report the file's line numbers
    try:
        tree = env.parse(text)
        names = meta.find_undeclared_variables(tree)
        strange = [(line + first, value) for line, kind, value in env.lex(text) if _is_strange(kind, value)]
    except TemplateSyntaxError as error:
        raise PromptError(f"line {error.lineno + first}: {error.message}") from error
    unknown = sorted(names - {"input"})
    if unknown:
        raise PromptError(
            f"undefined variable {', '.join(repr(n) for n in unknown)}; a prompt template may only use `input`, "
            "because a client sends nothing else"
        )
    strange += [((node.lineno or 1) + first, name) for node in tree.find_all(nodes.Node) if (name := _refused(node))]
    if strange:
        line, what = min(strange)
        raise PromptError(f"line {line}: engines render {what} differently; a prompt may use {ALLOWED}")
    if "input" not in names:
        raise PromptError("it does not use `input`, so every request would be the same; add {{ input }}")
    render_prompt(template, "example")


def _is_strange(kind: str, value: str) -> bool:
    return kind == "raw_begin" or (kind.endswith(("_begin", "_end")) and "+" in value)


def _refused(node: "nodes.Node") -> str | None:
    """The display name of a node that a prompt may not contain; None if it may."""
    from jinja2 import nodes

    if isinstance(node, nodes.Filter):
        return None if node.name in _FILTERS else f"the filter {node.name!r}"
    if isinstance(node, nodes.Operand):
        return None if node.op in _COMPARISONS else f"the comparison {node.op!r}"
    if isinstance(node, nodes.Const):
        return None if isinstance(node.value, str) else f"the constant {node.value!r}"
    kind = type(node).__name__
    return None if kind in _NODES else f"{kind.lower()!r}"


def render_prompt(template: str, text: str) -> str:
    """The user turn for one input.

    Raises:
        PromptError: the template cannot be rendered.
    """
    from jinja2.exceptions import TemplateError

    try:
        return _environment().from_string(_stripped(template)).render(input=text)
    except (TemplateError, TypeError, ValueError) as error:
        raise PromptError(f"cannot be rendered: {error}") from error


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
