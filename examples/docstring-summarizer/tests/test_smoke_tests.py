"""The smoke tests resemble real requests: valid Python, no longer than the training inputs."""

import ast
from pathlib import Path

import pytest
import yaml

TESTS = yaml.safe_load((Path(__file__).parents[1] / "smoke_tests.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test["name"])
def test_the_input_is_one_python_function(test: dict) -> None:
    (statement,) = ast.parse(test["input"]).body
    assert isinstance(statement, ast.FunctionDef)
    assert len(test["input"]) <= 400


def test_the_names_tell_the_tests_apart() -> None:
    assert len({test["name"] for test in TESTS}) == len(TESTS)
