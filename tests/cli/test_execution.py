"""`llmops run` without `--wait`: a process of its own executes the request."""

import os
from pathlib import Path

import pytest

from llmops_assets.cli.execution import start_detached
from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import dump_settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.domain.requests import Request


@pytest.mark.parametrize("name", ["resources.py", "sensors/__init__.py", "yaml.py"])
def test_it_imports_nothing_of_the_folder_in_which_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In a project with a module of that name, the run said "started", and nothing ran."""
    project, home = tmp_path / "project", tmp_path / "home"
    (project / name).parent.mkdir(parents=True)
    (project / name).write_text("raise SystemExit('the module of the project was imported')\n")
    home.mkdir()
    settings = Settings(home=home, projects=(ProjectSource(name="zoo", repository=str(tmp_path / "remote")),))
    (home / "settings.yaml").write_text(dump_settings(settings))
    monkeypatch.setenv("LLMOPS_SETTINGS", str(home / "settings.yaml"))
    monkeypatch.chdir(project)
    request = Request(project="zoo", revision="a" * 40, generation=1, status="queued", reason="asked for")
    _, status = os.waitpid(start_detached(settings, request, None), 0)
    [log] = (home / "services").glob("run-*.log")
    assert log.read_text().startswith(f"error: {tmp_path / 'remote'}: is unreachable"), "it looks at the repository"
    assert os.waitstatus_to_exitcode(status) == 2
