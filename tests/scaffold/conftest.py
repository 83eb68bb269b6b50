"""Fixtures for the tests of `llmops init`: a terminal with its own home, and a base model without real weights."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llmops_assets.cli.app import app
from tests.support.ports import free_port

Llmops = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """LLMOPS_HOME; Git has a committer, and does not read the machine's configuration."""
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LLMOPS_SETTINGS", raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "ada@example.com")
    return tmp_path / "home"


@pytest.fixture
def own_port(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings whose gateway has a free port: the usual one may serve another home of this machine."""
    file = tmp_path / "own-settings.yaml"
    file.write_text(f"serving: {{port: {free_port()}}}\n")
    monkeypatch.setenv("LLMOPS_SETTINGS", str(file))


@pytest.fixture
def llmops(home: Path) -> Llmops:
    def call(*words: str | Path) -> Result:
        result = CliRunner().invoke(app, [str(w) for w in words], env={"COLUMNS": "200"})
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    return call


@pytest.fixture
def light_base(tmp_path: Path) -> Path:
    """A model as `save_pretrained` writes it, except the weights, with the other files of hub folders."""
    folder = tmp_path / "a model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    for name in ("tokenizer.json", "model.safetensors", "flax_model.msgpack", ".gitattributes"):
        (folder / name).write_text(name)
    return folder
