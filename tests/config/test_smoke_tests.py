"""The file of smoke tests."""

import pytest

from llmops_assets.config.smoke_tests import parse_smoke_tests
from llmops_assets.config.yaml_validation import ConfigError


def test_smoke_tests_are_a_list_or_a_mapping_with_tests() -> None:
    text = "- {name: answers, input: hello, expect: {contains: hi, max_latency: 2s}}\n"
    tests = parse_smoke_tests(text, "smoke.yaml")
    assert tests == parse_smoke_tests("tests:\n  " + text, "smoke.yaml")
    assert tests.tests[0].expect.max_latency == 2.0 and tests.tests[0].expect.status == 200


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- {name: a, input: b}\n- {name: c, inptu: d}\n", "smoke.yaml:2: 1.inptu: unknown key; did you mean 'input'?"),
        ("- {name: a}\n", "smoke.yaml:1: 0.input: is missing; add it"),
        ("- name: a\n  input: b\n  expect:\n    matches: '('\n", "smoke.yaml:4: 0.expect.matches: not a regular"),
        ("tests:\n- {name: a, input: b, expect: {matches: '['}}\n", "smoke.yaml:2: tests.0.expect.matches: not"),
        ("[]\n", "smoke.yaml:1: it is empty; add at least one"),
        ("", "smoke.yaml: it is empty"),
    ],
)  # fmt: skip
def test_a_mistake_in_smoke_tests_is_reported_with_its_line(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_smoke_tests(text, "smoke.yaml")
    assert len(error.value.problems) == 1 and error.value.problems[0].startswith(told)
