"""The committed schemas and reference pages are generated from the parser's models, and current."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.config.json_schema import project_schema, settings_schema, smoke_tests_schema
from llmops_assets.config.project import parse_config
from llmops_assets.config.reference_docs import documents
from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import dump_settings
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.rollout import parse_duration, parse_share

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "docstring-summarizer"
LEAST: dict[str, Any] = {"name": "zoo", "model": {"base": {"path": "models/base"}}, "data": {"test": "t", "train": "d"}}


def found_by(schema: dict[str, Any], value: Any) -> list[str]:
    return [error.json_path for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]


@pytest.mark.parametrize("name", list(documents()))
def test_generated_files_are_committed_up_to_date(name: str) -> None:
    committed = (REPOSITORY / "docs" / name).read_text()
    assert committed == documents()[name], "run `python -m llmops_assets.config.reference_docs` and commit docs/"


@pytest.mark.parametrize(
    "schema", [project_schema(), settings_schema(), smoke_tests_schema()], ids=lambda s: s["title"]
)
def test_a_schema_is_valid_and_describes_every_key(schema: dict[str, Any]) -> None:
    """Editors show a key's description while the user types; a key without one has no help."""
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"].startswith("https://json-schema.org/") and schema["$id"] and schema["title"]
    definitions = {"": schema, **schema.get("$defs", {})}
    silent = [
        f"{where}.{key}"
        for where, definition in definitions.items()
        for key, value in definition.get("properties", {}).items()
        if not value.get("description") and (where, key) != ("", "tests")
    ]
    assert silent == []


def test_the_example_is_valid_by_the_committed_schema() -> None:
    schema = json.loads((REPOSITORY / "docs/schema/llmops.json").read_text())
    assert found_by(schema, yaml.safe_load((EXAMPLE / "llmops.yaml").read_text())) == []
    tests = {"tests": yaml.safe_load((EXAMPLE / "smoke_tests.yaml").read_text())}
    assert found_by(smoke_tests_schema(), tests) == []


def test_settings_as_we_write_them_are_valid_by_the_committed_schema() -> None:
    schema = json.loads((REPOSITORY / "docs/schema/settings.json").read_text())
    settings = Settings(projects=[{"name": "zoo", "repository": "../zoo"}])  # type: ignore[arg-type]
    assert found_by(schema, yaml.safe_load(dump_settings(settings))) == []
    assert found_by(schema, {"projects": [{"name": "zoo", "repo": "../zoo"}]})


@pytest.mark.parametrize(
    "change",
    [
        {"gatess": []},
        {"name": "Zoo"},
        {"prompt": "/etc/passwd"},
        {"prompt": "a/../../b"},
        {"training": {"epochs": "many"}},
        {"training": {"method": "prayer"}},
        {"evaluation": {"metrics": ["perplexty"]}},
        {"gates": [{"metric": "perplexity"}]},
        {"gates": [{"metric": "perplexity", "no_worse_than": "champion", "margin": "a bit"}]},
        {"deployment": {"approval": {"expires_after": "next week"}}},
        {"deployment": {"rollout": {"steps": [{"weight": "110%"}]}}},
        {"deployment": {"rollout": {"analysis": [{"metric": "error_rate", "at_most": "few"}]}}},
        {"model": {"base": {"hub": "org/name", "revision": "main"}}},
    ],
    ids=str,
)
def test_a_mistake_is_marked_by_the_editor_as_it_is_refused_by_the_parser(change: dict[str, Any]) -> None:
    assert found_by(project_schema(), LEAST | change)
    with pytest.raises(ConfigError):
        parse_config(yaml.safe_dump(LEAST | change))


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "./prompts/..ask.jinja"},
        {"model": {"base": {"hub": "org/name", "revision": "0" * 40}}},
        {"evaluation": {"metrics": ["bleu", {"name": "own", "function": "m.py:f"}]}},
        {"gates": [{"metric": "rougeL", "no_worse_than": "champion", "margin": "2.5 %"}]},
        {"deployment": {"approval": {"approvers": ["ada"], "expires_after": "1.5h"}}},
        {"deployment": {"rollout": {"steps": [{"weight": "10%", "hold": "250ms"}, {"weight": 0.5, "hold": 5}]}}},
        {"deployment": {"rollout": {"analysis": [{"metric": "p95_latency", "at_most": "5s"}]}}},
    ],
    ids=str,
)
def test_input_that_the_parser_accepts_is_valid_in_the_editor_too(change: dict[str, Any]) -> None:
    parse_config(yaml.safe_dump(LEAST | change))
    assert found_by(project_schema(), LEAST | change) == []


def _text_of(definition: str, key: str) -> str:
    choices = project_schema()["$defs"][definition]["properties"][key]["anyOf"]
    return next(c["pattern"] for c in choices if c["type"] == "string")


@given(st.from_regex(_text_of("RolloutStep", "hold").removesuffix("$") + r"\Z"))
def test_every_duration_that_the_pattern_lets_through_is_one(text: str) -> None:
    assert isinstance(parse_duration(text), float)


@given(st.from_regex(_text_of("RolloutStep", "weight").removesuffix("$") + r"\Z"))
def test_every_percentage_that_the_pattern_lets_through_is_a_share(text: str) -> None:
    share = parse_share(text)
    assert isinstance(share, float) and 0 <= share <= 1
