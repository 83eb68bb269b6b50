"""The prompts keep a client's input byte for byte and use no variable that a client does not send."""

from pathlib import Path

import pytest
from jinja2 import Environment, StrictUndefined

PROMPTS = sorted((Path(__file__).parents[1] / "prompts").glob("*.jinja"))
CODE = 'def f(x):\n    """quoted"""\n    return {"<a & b>": x}  # {{ not a template }}'


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda path: path.name)
def test_the_code_arrives_unchanged(prompt: Path) -> None:
    template = Environment(undefined=StrictUndefined, autoescape=False).from_string(prompt.read_text())
    assert template.render(input=CODE).count(CODE) == 1


def test_serving_and_training_have_a_prompt_each() -> None:
    """With a separate training prompt, the serving prompt can change without training."""
    assert {prompt.name for prompt in PROMPTS} >= {"summarize.jinja", "training.jinja"}
