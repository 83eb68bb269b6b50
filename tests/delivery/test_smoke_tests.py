"""A smoke test compares an endpoint's answer with what it expects, and names each expectation that is not met."""

import time
from typing import Any

import pytest

from llmops_assets.config.smoke_tests import SmokeTest, parse_smoke_tests
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.smoke_tests import check_answer
from resources.serving.client import Answer


def smoke_test(expect: str) -> SmokeTest:
    return parse_smoke_tests(f"- {{name: a, input: b, expect: {expect}}}\n", "smoke.yaml").tests[0]


def answer(text: str) -> Answer:
    return Answer(ok=True, status=200, latency_s=0.1, text=text)


@pytest.mark.parametrize(
    ("expect", "text", "said"),
    [
        (r"{matches: '\w{2,}'}", "Größe", None),
        (r"{matches: '^\d+$'}", "12 kg", r"it does not match '^\\d+$'"),
        ("{does_not_match: '(?i)sorry|cannot'}", "The sum is 4.", None),
        ("{does_not_match: '(?i)sorry|cannot'}", "I am Sorry.", "it matches '(?i)sorry|cannot'"),
        ("{contains: " + "x" * 5000 + "}", "y", "it does not contain 'xxx"),
    ],
)
def test_an_answer_is_compared_with_patterns(expect: str, text: str, said: str | None) -> None:
    check = check_answer(smoke_test(expect), answer(text))
    assert check.passed == (said is None) and len(check.summary) < 500
    assert said is None or said in check.summary


def test_a_pattern_that_python_would_search_for_minutes_is_decided_at_once() -> None:
    began = time.process_time()
    assert not check_answer(smoke_test("{matches: '(a+)+$'}"), answer("a" * 4_000 + "!")).passed
    assert time.process_time() - began < 5


def test_a_pattern_that_is_not_supported_is_named_with_its_line() -> None:
    with pytest.raises(ConfigError) as error:
        parse_smoke_tests("- name: a\n  input: b\n  expect:\n    matches: '(?!sorry)'\n", "smoke.yaml")
    assert str(error.value).startswith("smoke.yaml:4: 0.expect.matches: not a regular expression: ")
    assert "does_not_match" in str(error.value)


@pytest.mark.parametrize(
    ("given", "healthy"),
    [
        ({"ok": True, "finish_reason": "stop", "text": ""}, True),
        ({"ok": True, "finish_reason": "length", "text": "\n\n"}, True),
        ({"ok": True, "finish_reason": "stop", "text": "", "release": "other"}, False),
        ({"ok": False, "broken": True, "text": ""}, False),
        ({"ok": False, "broken": True, "text": "Hel"}, False),
        ({"ok": False, "status": 503, "text": ""}, False),
    ],
)
def test_a_whole_answer_without_text_is_no_fault_of_the_endpoint(given: dict[str, Any], healthy: bool) -> None:
    """A model that ends its answer to our "Hello" at once made its endpoint unhealthy, though it served as measured."""
    said = Answer(**{"status": 200, "latency_s": 0.1, "release": "mine", **given})
    own_question = SmokeTest(name="production", input="Hello")
    check = check_answer(own_question, said, "mine", may_be_empty=True)
    assert check.passed == healthy and ("no text" in check.summary) == healthy
    assert not check_answer(own_question, said, "mine").passed, "a project's own question needs an answer"
