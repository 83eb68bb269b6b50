"""A file of settings."""

from pathlib import Path

import pytest


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "conf" / "settings.yaml"
    file.parent.mkdir()
    monkeypatch.setenv("LLMOPS_SETTINGS", str(file))
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    return file
