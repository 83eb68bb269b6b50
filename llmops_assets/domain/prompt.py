"""The prompt: how a client's bare input becomes the user turn that the model was trained on.

The template is composed *into* the model's chat template, so the engine that serves it needs no extra hop and a
change of prompt is a release like any other. transformers and llama.cpp (minja) render the result alike; only
constructs that both know are used.
"""

from jinja2 import StrictUndefined, TemplateSyntaxError, meta
from jinja2.exceptions import SecurityError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment


class PromptError(ValueError):
    """The template cannot be served: says what is wrong and how to mend it."""


def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)


def _stripped(template: str) -> str:
    return template.removesuffix("\n")


def check_prompt(template: str) -> None:
    """Refuses a template that could not be rendered from `input` alone.

    Raises:
        PromptError: a syntax error, an undefined variable, or a template that ignores its input.
    """
    env = _environment()
    try:
        names = meta.find_undeclared_variables(env.parse(_stripped(template)))
    except TemplateSyntaxError as error:
        raise PromptError(f"line {error.lineno}: {error.message}") from error
    unknown = sorted(names - {"input"})
    if unknown:
        raise PromptError(
            f"undefined variable {', '.join(repr(n) for n in unknown)}; a prompt template may use `input` only, "
            "because that is all that a client sends"
        )
    if "input" not in names:
        raise PromptError("it does not use `input`, so every question would be the same; write {{ input }} where it goes")
    render_prompt(template, "example")


def render_prompt(template: str, text: str) -> str:
    """The user turn for one input; one trailing newline of the template is not part of it.

    Raises:
        PromptError: the template cannot be rendered.
    """
    try:
        return _environment().from_string(_stripped(template)).render(input=text)
    except (UndefinedError, SecurityError, TypeError, ValueError) as error:
        raise PromptError(f"cannot be rendered: {error}") from error


def compose_chat_template(template: str, chat_template: str) -> str:
    """A chat template that wraps every user turn in `template` and then goes on as the model's own.

    The prefix rebuilds `messages` in a namespace, since a plain `set` inside a loop is lost after it.
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
        "{%- set messages = ns_prompt.msgs -%}" + chat_template
    )
