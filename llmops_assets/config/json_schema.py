"""JSON Schemas of llmops.yaml, the settings and the smoke tests, for completion and checks in editors: `llmops schema`.

They are generated from the pydantic models, so they agree with the parser. Pages that are generated from them belong in
`llmops_assets.config.reference_docs`.
"""

import json
from typing import Any

from pydantic import BaseModel

from llmops_assets.config.project import CONFIG_FILE, ProjectConfig
from llmops_assets.config.settings import Settings
from llmops_assets.config.smoke_tests import SmokeTests

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_FILE = "llmops.schema.json"
"""File name of the copy that `llmops init` adds to a project, so that editors need no network."""


def project_schema() -> dict[str, Any]:
    """The schema of llmops.yaml."""
    return _schema(ProjectConfig, CONFIG_FILE, "llmops.yaml")


def settings_schema() -> dict[str, Any]:
    """The schema of the file that LLMOPS_SETTINGS names."""
    schema = _schema(Settings, "llmops settings", "settings")
    return schema | {"description": "Settings of a code location: the file that LLMOPS_SETTINGS names."}


def smoke_tests_schema() -> dict[str, Any]:
    """The schema of the file that deployment.smoke_tests names, in its form as a mapping."""
    return _schema(SmokeTests, "smoke tests", "smoke-tests")


def _schema(model: type[BaseModel], title: str, name: str) -> dict[str, Any]:
    """The schema of the input, which allows more than the model stores: 10% as well as 0.1."""
    made = model.model_json_schema(mode="validation")
    for definition in (made, *made.get("$defs", {}).values()):
        for value in definition.get("properties", {}).values():
            value.pop("title", None)  # pydantic's title only repeats the key
    head = {"$schema": DIALECT, "$id": f"urn:llmops-assets:schema:{name}", "title": title}
    return head | {key: value for key, value in made.items() if key != "title"}


def as_text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
