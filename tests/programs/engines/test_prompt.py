"""The prompt: transformers, llama.cpp and `render_prompt` give the model the same text, byte for byte.

Engines serve the composed chat template; the reference is the model's own template around the rendered prompt.
"""

from pathlib import Path

import pytest

from llmops_assets.domain.prompt import PromptError, check_prompt, compose_chat_template, render_prompt
from llmops_assets.programs.engines.running import running_engine
from llmops_assets.programs.runtime.specs import ServeSpec

PROMPTS = {
    "bare": "{{ input }}",
    "white space around it": "  \n\t Say:\n\n{{ input }}  \n\n",
    "a fenced block": "Summarize.\n```python\n{{ input }}\n```\nIn one line:\n",
    "an if on lines of its own": "a\n  {% if 'x' in input %}\n    has x\n  {% elif not input %}\n  empty\n"
    "  {% endif %}\n  {{ input }}\nz",
    "an if at both ends": "{% if input == 'plain' %}\nP {{ input }}\n{% else %}\nno {{ input }}\n{% endif %}\n",
    "quotes, backslashes and a comment": "It's \"quoted\" \\n 'x' {# a note #}\n{{ input }} {{ \"it's\" }} {{ '{{' }}",
    "trimmed tags": "a {{- input -}} b {%- if input %} c {% endif -%} d",
    "filters and operators": "{{ input | replace('a', 'b') ~ '!' }} {{ 'yes' if input else 'no' }}",
    "lines of Windows": "one\r\ntwo {{ input }}\r\n",
    "other scripts": "Опиши: «{{ input }}» 漢字🙂",
}
INPUTS = [
    "plain", "", " lead and trail \n", "\n\n x\n\n", "quotes ' \" `", "{{ x }} {% if %} {# c #}",
    "tab\t\tä漢字🙂\u00a0", "a\r\nb", "<|im_end|>", "back\\slash \\n", "def f(x):\n    return x\n",
]  # fmt: skip
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "Be kind.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'"
    " + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
    "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}{% if loop.index0 == 0 and system_message %}{% set content = '<<SYS>>\n' + "
    "system_message + '\n<</SYS>>\n\n' + message['content'] %}{% else %}{% set content = message['content'] %}"
    "{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + content + ' [/INST]' }}{% elif message['role'] == "
    "'assistant' %}{{ ' ' + content + ' </s>' }}{% endif %}{% endfor %}"
)
MACRO = (
    "\n  \n  {%- macro turn(m) %}\n  <{{ m.role }}>{{ m.content }}\n{% endmacro %}\n  {% for message in messages %}\n"
    "    {{ turn(message) }}\n  {% endfor %}\n{% if add_generation_prompt %}<assistant>{% endif %}"
)
LITERAL = "  Conversation:\n{%- for m in messages %}\n{{ m['role'] }}: {{ m['content'] }}\n{%- endfor %}"
MODELS = {
    "ChatML": CHATML,
    "Llama 2": LLAMA_2,
    "begins with white space, and a macro": MACRO,
    "begins with a literal": LITERAL,
}


def conversation(text: str) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "first\n"},
        {"role": "assistant", "content": "an answer"}, {"role": "user", "content": text},
    ]  # fmt: skip


def with_rendered(prompt: str, messages: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{**m, "content": render_prompt(prompt, m["content"])} if m["role"] == "user" else m for m in messages]


def by_transformers(template: str, messages: list[dict[str, str]]) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, _ = render_jinja_template(
        conversations=[messages], chat_template=template, add_generation_prompt=True, return_assistant_tokens_mask=False
    )
    return str(rendered[0])


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_the_composed_template_is_the_models_own_around_the_rendered_prompt(prompt: str, model: str) -> None:
    check_prompt(prompt)
    for text in INPUTS:
        for messages in ([{"role": "user", "content": text}], conversation(text)):
            composed = by_transformers(compose_chat_template(prompt, model), messages)
            assert composed == by_transformers(model, with_rendered(prompt, messages))


PAIRS = [(p, CHATML) for p in PROMPTS.values()] + [(PROMPTS["a fenced block"], m) for m in list(MODELS.values())[1:]]


@pytest.mark.parametrize(("prompt", "model"), PAIRS, ids=[*PROMPTS, *list(MODELS)[1:]])
def test_llama_cpp_renders_what_transformers_renders(prompt: str, model: str, gguf: Path, tmp_path: Path) -> None:
    template = compose_chat_template(prompt, model)
    spec = ServeSpec(
        model=str(gguf), alias="m", chat_template=template, port=0, serving={"parallel": 1, "context_length": 64}
    )
    with running_engine(spec, tmp_path) as engine:
        for text in INPUTS:
            for messages in ([{"role": "user", "content": text}], conversation(text)):
                assert engine.rendered(messages) == by_transformers(template, messages)


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("{{ input", "unexpected end of template"),
        ("one\n{% if input %}\ntwo", "line 3"),
        ("\n\n{{ input }}\n{% endif %}", "line 4"),
        ("{{ question }}", "undefined variable 'question'"),
        ("{{ input }} {{ messages }}", "undefined variable 'messages'"),
        ("no input here", "does not use `input`"),
        ("{{ input | nothing }}", "No filter named 'nothing'"),
        ("{{ input }}\n{{ input | length }}", "line 2: engines render the filter 'length' differently"),
        ("{{ input | trim }}", "the filter 'trim'"),
        ("{{ input.upper() }}", "'call'"),
        ("{{ input[:80] }}", "'getitem'"),
        ("{{ input.__class__ }}", "'getattr'"),
        ("{% for c in input %}{{ c }}{% endfor %}", "'for'"),
        ("{% set messages = input %}{{ input }}", "'assign'"),
        ("{% raw %}{{ x }}{% endraw %}{{ input }}", "raw"),
        ("{%+ if input %}{{ input }}{% endif %}", "{%+"),
        ("{% include 'x' %}{{ input }}", "'include'"),
        ("{{ input }}{% if input > 'b' %}x{% endif %}", "the comparison 'gt'"),
        ("{{ input }} {{ 3 }}", "the constant 3"),
    ],
)
def test_what_engines_would_render_differently_is_refused(prompt: str, problem: str) -> None:
    """llama.cpp counts bytes, trims ASCII and cannot parse raw blocks: an umlaut would change the served prompt."""
    with pytest.raises(PromptError) as refused:
        check_prompt(prompt)
    assert problem in str(refused.value)
