"""A prompt renders to a bounded size wherever it is rendered: in the location, in training, and in the engine.

A template of 227 bytes once took 3 GB and half a minute at each `llmops check` and tick, and any client of the endpoint
could have done the same to the engine.
"""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_assets.domain.prompt import MAX_RENDERED, PromptError, check_prompt, render_prompt
from llmops_assets.domain.prompt_size import MAX_FIXED, MAX_GROWTH

DOUBLE = "|replace('a', 'aaaaaaaaaa')"
REFUSED = {
    "a chain of replace on the input": ("{{ input" + DOUBLE * 10 + " }}", "line 1: the prompt could be 1,000 times"),
    "a chain of replace on a text": ("{{ input }}\n{{ 'a'" + DOUBLE * 12 + " }}", "line 2: it could render to"),
    "the input in place of each letter": ("{{ input|replace('e', input)|replace('e', input) }}", "needs two texts"),
    "a replacement that is computed": ("{{ input|replace('e', 'x' ~ input) }}", "replace needs two texts in quotes"),
    "between all letters": ("{{ input|replace('', 'xxxx') }}", "the first not empty"),
    "hidden in a condition": ("{% if input" + DOUBLE * 10 + " == 'x' %}a{% endif %}{{ input }}", "the prompt could"),
    "hidden in a default": ("{{ input|default('a'" + DOUBLE * 12 + ") }}", "it could render to"),
    "the input a thousand times": ("{{ input }}" * 1000, "1,000 times as long as its input (limit 100)"),
    "powers": ("{{ input }}{{ 9 ** 9 ** 9 ** 9 }}", "engines render"),
    "a product of texts": ("{{ input }}{{ 'x' * 10 ** 10 }}", "engines render"),
    "a loop over a range": ("{{ input }}{% for i in range(10 ** 10) %}x{% endfor %}", "undefined variable 'range'"),
    "loops in loops": ("{% for a in input %}{% for b in input %}{{ input }}{% endfor %}{% endfor %}", "'for'"),
    "a wide filter": ("{{ input|center('1000000000') }}", "the filter 'center'"),
    "a format": ("{{ '%1000000000d'|format('1') ~ input }}", "the filter 'format'"),
    "a number of many digits": ("{{ input }}{{ " + "9" * 5000 + " }}", "4300 digits"),
    "deep parentheses": ("{{ " + "(" * 5000 + "input" + ")" * 5000 + " }}", "nested more than 30 levels deep"),
    "a hundred conditions in each other": ("{% if input %}" * 100 + "{{ input }}" + "{% endif %}" * 100, "nested"),
    "a long chain of nots": ("{{ " + "not " * 3000 + "input }}", "nested more than 30 levels deep"),
    "a long chain of filters": ("{{ input" + "|default('a')" * 3000 + " }}", "nested more than 30 levels deep"),
    "ten thousand branches": ("{% if input %}" + "{% elif input %}" * 3000 + "{{ input }}{% endif %}", "2,000 parts"),
    "a template of 70 KB": ("{{ input }}" + "x" * 70_000, "larger than 64 KB"),
    "half of a character": ("{{ input ~ '\\ud800' }}", "is half of a character"),
}  # fmt: skip


@pytest.mark.parametrize(("template", "said"), REFUSED.values(), ids=REFUSED)
def test_what_could_grow_without_bound_is_refused_before_it_is_rendered(template: str, said: str) -> None:
    began = time.process_time()
    with pytest.raises(PromptError) as error:
        check_prompt(template)
    assert said in str(error.value) and len(str(error.value)) < 1_000
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "template",
    [
        "Say:\n{{ input }}\n",
        "{{ input|replace('&', '&amp;')|replace('<', '&lt;')|replace('>', '&gt;') }}",
        "{{ input|replace('\n', '\n    ') }}",
        "{{ input|replace('long words', 'w')|replace('x', '') }}",
        "{% if 'x' in input %}{{ input }}{% elif not input %}none{% else %}{{ input ~ '!' }}{% endif %}",
        "An example: " + "word " * 5_000 + "{{ input|default('nothing') }}",
    ],
)
def test_prompts_of_real_projects_pass(template: str) -> None:
    check_prompt(template)


def test_a_long_input_is_refused_instead_of_rendered() -> None:
    template = "{{ input|replace('a', 'aaaaaaaaaa')|replace('b', 'bbbbbbbbbb') }}"
    assert len(render_prompt(template, "ab" * 1000)) == 20_000
    with pytest.raises(PromptError, match="the rendered prompt could exceed 16 MB; shorten the input"):
        render_prompt(template, "a" * (MAX_RENDERED // 100 + 1))


texts = st.text("ab'\\\"{}%é ", max_size=4).map(lambda t: repr(t))
expressions = st.recursive(
    st.sampled_from(["input", "input", "messages", "3", "none"]) | texts,
    lambda e: (
        st.tuples(e, texts, texts).map("{0[0]}|replace({0[1]}, {0[2]})".format)
        | st.tuples(e, e).map("({0[0]} ~ {0[1]})".format)
        | st.tuples(e, e, e).map("({0[0]} if {0[1]} else {0[2]})".format)
        | st.tuples(e, st.sampled_from(["and", "or", "==", "in", "*", "+"]), e).map("({0[0]} {0[1]} {0[2]})".format)
        | st.tuples(e, e).map("{0[0]}|default({0[1]})".format)
    ),
    max_leaves=12,
)
templates = st.lists(
    expressions.map("{{{{ {} }}}}".format)
    | st.tuples(expressions, expressions).map("{{% if {0[0]} %}}{{{{ {0[1]} }}}}{{% else %}}x{{% endif %}}".format)
    | st.text(max_size=6),
    max_size=5,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(template=templates | st.text("{}%| 'a(input)[]~if.", max_size=40), text=st.text(max_size=50))
def test_whatever_the_template_it_is_refused_or_its_size_is_bounded(template: str, text: str) -> None:
    try:
        check_prompt(template)
        rendered: Any = render_prompt(template, text)
    except PromptError as error:
        assert len(str(error)) < 1_000
        return
    assert len(rendered.encode(errors="surrogatepass")) <= MAX_GROWTH * len(text.encode()) + MAX_FIXED
