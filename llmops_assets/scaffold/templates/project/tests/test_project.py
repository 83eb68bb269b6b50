"""Runs before training, like all tests in tests/."""

from pathlib import Path

import yaml
from jinja2 import Environment, StrictUndefined

ROOT = Path(__file__).parents[1]


def test_every_prompt_keeps_the_question_as_it_was_sent() -> None:
    question = 'How many "grams" are {{ 3 }} <kilograms> & 1?'
    for prompt in (ROOT / "prompts").glob("*.jinja"):
        template = Environment(undefined=StrictUndefined, autoescape=False).from_string(prompt.read_text())
        assert template.render(input=question).count(question) == 1, prompt.name


def test_smoke_tests_can_be_told_apart_by_their_names() -> None:
    names = [test["name"] for test in yaml.safe_load((ROOT / "smoke_tests.yaml").read_text())]
    assert len(set(names)) == len(names)
