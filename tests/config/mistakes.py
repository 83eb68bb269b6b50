"""The mistakes that a file of settings or a llmops.yaml reports, and texts that tests put them into."""

from pathlib import Path

import pytest

from llmops_assets.config.project import parse_config
from llmops_assets.config.settings_file import load_settings
from llmops_assets.config.yaml_validation import ConfigError

NOTIFY = "notifications:\n  - name: team\n"
WEBHOOKS = "projects: [{name: zoo, repository: /srv/zoo}]\nwebhooks: "
GOOD = """\
name: zoo
model:
  base: {path: models/base}
data:
  train: data/train.jsonl
  test: data/test.jsonl
"""


def told(file: Path, text: str) -> list[str]:
    """The problems of settings, without the file's name."""
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_settings()
    return [p.removeprefix(str(file)) for p in error.value.problems]


def problems(text: str) -> list[str]:
    """The problems of a llmops.yaml."""
    with pytest.raises(ConfigError) as error:
        parse_config(text)
    return error.value.problems
