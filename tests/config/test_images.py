"""The settings of images, which files a build sees, and what `llmops check` says of a Dockerfile that is not there."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from llmops_assets.config.image_context import BadPattern, context_files, ignore_file
from llmops_assets.config.images import ImageSettings
from llmops_assets.config.settings_file import load_settings
from llmops_assets.config.yaml_validation import ConfigError
from resources.project_source.folder_check import check_folder

GIVEN = {"registry": "registry.example.com/team"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"registry": "https://registry.example.com"}, "registry"),
        ({"registry": "user:pass@registry.example.com"}, "registry"),
        ({"host": "tcp://user:secret@build.example.com:2376"}, "contains a password or token; leave it out"),
        ({"host": "npipe:////./pipe/docker"}, "host"),
        ({"username": "ci"}, "password"),
        ({"password": {"env": "TOKEN"}}, "username"),
        ({"username": "ci", "password": "t0ken"}, "password"),
        ({"builder": "kaniko"}, "unknown image builder 'kaniko' (known: docker)"),
        ({"args": {"INDEX": "https://ci:secret@pypi.example.com/simple"}}, "every image shows its arguments"),
        ({"args": {"BUILDKIT_SYNTAX": "x"}}, "an argument of the builder itself"),
        ({"scan": {"max_age": "yesterday"}}, "max_age"),
        ({"network": "bridge"}, "'none', 'default' or 'host'"),
    ],
)
def test_a_mistake_in_the_settings_is_named_and_no_secret_is_shown(change: dict[str, Any], told: str) -> None:
    with pytest.raises((ValidationError, ValueError)) as caught:
        ImageSettings.model_validate({**GIVEN, **change})
    assert told in str(caught.value)


def test_an_error_in_the_settings_file_has_file_line_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"home: {tmp_path}\nimages:\n  registry: registry.example.com/team\n  username: ci\n")
    monkeypatch.setenv("LLMOPS_SETTINGS", str(file))
    with pytest.raises(ConfigError) as caught:
        load_settings()
    (problem,) = caught.value.problems
    assert problem.startswith(f"{file}: line ") or problem.startswith(f"{file}:"), problem
    assert "images.password: is missing: a login needs username and password" in problem


@pytest.mark.parametrize(
    ("ignored", "seen"),
    [
        ("", ["Dockerfile", "a.py", "docs/a.md", "docs/b/a.py", "requirements.lock"]),
        ("*.py", ["Dockerfile", "docs/a.md", "docs/b/a.py", "requirements.lock"]),
        ("**/*.py", ["Dockerfile", "docs/a.md", "requirements.lock"]),
        ("docs/", ["Dockerfile", "a.py", "requirements.lock"]),
        ("/docs\n!docs/b", ["Dockerfile", "a.py", "docs/b/a.py", "requirements.lock"]),
        ("*\n!requirements.lock", ["Dockerfile", "requirements.lock"]),
        ("./docs/../docs\n# a.py\n\n  a.py  ", ["Dockerfile", "requirements.lock"]),
        ("Dockerfile", ["Dockerfile", "a.py", "docs/a.md", "docs/b/a.py", "requirements.lock"]),
    ],
)
def test_the_build_sees_what_dockerignore_leaves(ignored: str, seen: list[str]) -> None:
    files = ["a.py", "docs/a.md", "docs/b/a.py", "Dockerfile", "requirements.lock"]
    assert context_files(files, ".", "Dockerfile", ignored) == seen


def test_a_folder_as_context_and_a_dockerfile_with_an_ignore_file_of_its_own() -> None:
    files = ["docker/train.Dockerfile", "docker/train.Dockerfile.dockerignore", "app/.dockerignore", "app/x", "y"]
    assert ignore_file(files, "app", "docker/train.Dockerfile") == "docker/train.Dockerfile.dockerignore"
    assert ignore_file(files, "app", "docker/other.Dockerfile") == "app/.dockerignore"
    seen = context_files(files, "app", "docker/train.Dockerfile", "x")
    assert seen == ["app/.dockerignore", "docker/train.Dockerfile", "docker/train.Dockerfile.dockerignore"]


def test_a_line_that_is_no_pattern_is_named_and_one_that_is_slow_for_python_is_not_slow() -> None:
    with pytest.raises(BadPattern) as caught:
        context_files(["a"], ".", "Dockerfile", "ok\n\n[z-a]\n")
    assert caught.value.line == 3
    context_files(["a" * 250], ".", "Dockerfile", "*a*a*a*a*a*a*a*a*a*b\n")


def test_check_names_a_dockerfile_that_is_missing_and_a_bad_ignore_file(tmp_path: Path) -> None:
    config = {"name": "zoo", "model": {"base": {"path": "base"}}, "data": {"test": "test.jsonl"},
              "training": {"method": "none"}, "image": {"dockerfile": "docker/Dockerfile"}}  # fmt: skip
    (tmp_path / "test.jsonl").write_text("{}\n")
    (tmp_path / "base").mkdir()
    (tmp_path / "llmops.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError) as caught:
        check_folder(tmp_path)
    assert f"{tmp_path}/docker/Dockerfile: no such file (image.dockerfile)" in caught.value.problems
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "Dockerfile").write_text("FROM scratch\n")
    check_folder(tmp_path)
    (tmp_path / ".dockerignore").write_text("*.md\n[z-a]\n")
    with pytest.raises(ConfigError) as caught:
        check_folder(tmp_path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path}/.dockerignore:2: ") and "is no pattern" in problem
