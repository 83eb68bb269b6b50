"""Engines of other packages: what each owes, and what is said of one that does not have it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmops_assets.catalog import ENGINES
from llmops_assets.programs.engines.interface import EngineClient, ServingEngine
from llmops_assets.programs.engines.loading import members
from tests.programs.conftest import ENVIRONMENT

DOCS = Path(__file__).parents[3] / "docs/contributing.md"
PART = """
from llmops_assets.catalog import EnginePart
from llmops_assets.programs.engines.llama_cpp import LlamaCpp

PARTS = EnginePart(name="half", path="half:Half", does="Of an earlier version.", formats=("gguf",))

class Half:
    def __init__(self):
        self.libraries = ()
        self.serve = self.device = self.context_per_request = print
    def client(self, base_url):
        return LlamaCpp().client(base_url)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages, with a package whose engine knows an older interface."""
    info = tmp_path / "site/half-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[llmops_assets.parts]\nhalf = half:PARTS\n")
    (tmp_path / "site/half.py").write_text(PART)
    return tmp_path / "site"


def test_an_engine_of_a_package_that_lacks_a_method_is_refused_by_name_before_it_starts(
    site: Path, tmp_path: Path
) -> None:
    """A package for an earlier interface ended each served evaluation with an AttributeError, which was retried."""
    (tmp_path / "model.gguf").write_bytes(b"weights")
    spec = {"engine": "half", "model": str(tmp_path / "model.gguf"), "alias": "m", "chat_template": "", "port": 0}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    done = subprocess.run(
        [sys.executable, "-m", "llmops_assets.programs.serve", "--spec", str(tmp_path / "spec.json")],
        env={**ENVIRONMENT, "PYTHONPATH": str(site)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "serve: engine 'half' (half.Half) lacks gpus; its package must implement" in done.stderr
    assert "docs/contributing.md" in done.stderr


@pytest.mark.parametrize("interface", [ServingEngine, EngineClient])
def test_the_docs_name_every_part_of_the_interface(interface: type) -> None:
    section = DOCS.read_text().split("## An engine of your own")[1].split("\n## ")[0]
    table = "\n".join(line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `"))
    assert len(members(interface)) > 4
    assert [name for name in members(interface) if f"`{name}" not in table] == []


def test_the_docs_name_the_engines_that_exist() -> None:
    section = DOCS.read_text().split("## An engine of your own")[1].split("\n## ")[0]
    assert tuple(ENGINES) == ("llama.cpp",) and "`llama.cpp` is the only engine in the catalog" in section
