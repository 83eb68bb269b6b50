"""Checks that read a project's files and run nothing: Kubernetes manifests, and licences."""

from pathlib import Path
from typing import Any

import pytest

from llmops_assets.config.project import ProjectConfig
from llmops_assets.delivery.ci_kubernetes import check_manifests
from llmops_assets.delivery.ci_licences import check_licences
from resources.project_environments.environments import Environment

POD = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n    - name: a\n      {}: x\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_a_misspelt_field_of_a_manifest_is_named_with_its_line(tmp_path: Path) -> None:
    text = f"# two documents\n---\n{POD.format('image')}---\n{POD.format('imagee')}"
    seen = check_manifests(write(tmp_path, pod=text), (), False)
    assert seen is not None and not seen.passed
    (found,) = seen.findings
    assert (found.file, found.rule, found.line) == ("pod.yaml", "Pod", 18), found
    assert "spec.containers.0" in found.message and "imagee" in found.message


def test_what_is_no_manifest_is_not_looked_at_and_custom_kinds_are_named(tmp_path: Path) -> None:
    assert (
        check_manifests(write(tmp_path, values="replicas: 3\n", t="apiVersion: v1\nkind: {{ .k }}\n"), (), False)
        is None
    )
    seen = check_manifests(write(tmp_path, own="apiVersion: example.com/v1\nkind: Widget\nspec: {}\n"), (), False)
    assert seen is not None and seen.passed and "without Widget" in seen.summary
    assert check_manifests(tmp_path, ("own.yaml",), False) is None
    broken = check_manifests(write(tmp_path, b="apiVersion: v1\nkind: Pod\nspec: [\n"), (), False)
    assert broken is not None and [f.rule for f in broken.findings] == ["yaml"]


def config(licence: str | None, **licences: Any) -> ProjectConfig:
    return ProjectConfig.model_validate(
        {
            "name": "zoo",
            "model": {"base": {"path": "base"}, **({"license": licence} if licence else {})},
            "data": {"train": "a.jsonl", "test": "b.jsonl"},
            "ci": {"licences": licences} if licences else {},
        }
    )


@pytest.fixture
def built(tmp_path: Path) -> Environment:
    """An environment with three packages, as installers write their metadata."""
    site = tmp_path / "env/lib/python3.11/site-packages"
    for name, told in (
        ("good", "License-Expression: MIT"),
        ("bad", "License: GPL-3.0-only"),
        ("odd_one", "License: all mine"),
    ):
        (site / f"{name}-1.0.dist-info").mkdir(parents=True)
        (site / f"{name}-1.0.dist-info/METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\n{told}\n\nWords\n")
    return Environment(folder=tmp_path / "env", lock="uv.lock", digest="d" * 32, packages=3)


def test_licences_are_not_checked_unless_the_project_says_what_it_allows(tmp_path: Path) -> None:
    seen = check_licences(config("mit"), tmp_path, None)
    assert seen.severity == "warn" and seen.summary == "not checked: ci.licences is not set"


def test_packages_and_model_are_checked_and_the_unknown_is_named(tmp_path: Path, built: Environment) -> None:
    seen = check_licences(config(None, allow=["MIT"]), tmp_path, built)
    assert not seen.passed
    assert {(f.rule, f.file) for f in seen.findings} == {
        ("base-model", "llmops.yaml"), ("bad", "uv.lock"), ("odd-one", "uv.lock"),
    }  # fmt: skip
    told = {f.rule: f.message for f in seen.findings}
    assert "unknown; state it as model.license" in told["base-model"] and "GPL-3.0-only is not in" in told["bad"]
    assert "unknown ('all mine'); name it in ci.licences.packages" in told["odd-one"]
    allowed = config("mit", allow=["MIT", "GPL-3.0-only"], packages={"odd-one": "MIT"})
    seen = check_licences(allowed, tmp_path, built)
    assert seen.passed and seen.summary == "the base model and 3 packages: all allowed"


def test_the_card_of_a_base_model_in_git_is_read_and_may_not_contradict(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    assert check_licences(config(None, allow=["Apache-2.0"]), tmp_path, None).passed
    seen = check_licences(config("mit", allow=["Apache-2.0", "MIT"]), tmp_path, None)
    assert [f.file for f in seen.findings] == ["base/README.md"]


def test_a_lock_without_an_environment_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six==1.16.0 --hash=sha256:" + "0" * 64 + "\n")
    seen = check_licences(config("mit", allow=["MIT"]), tmp_path, None)
    assert [f.file for f in seen.findings] == ["requirements.txt"] and "unknown" in seen.findings[0].message
