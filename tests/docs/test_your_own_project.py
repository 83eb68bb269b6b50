"""docs/your-own-project.md works as written: each of its shell blocks runs unchanged, in one shell.

The page's two prerequisites are met: the tools are on the path, and ~/models/base holds a base model (a tiny one).
Only the gateway's port differs, because another process may listen on the page's.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.projects import World, furnish

PAGE = Path(__file__).parents[2] / "docs" / "your-own-project.md"
PORT = "8300"


def shell_blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def newcomer(tmp_path: Path, base: Path) -> dict[str, str]:
    """The environment of a user who has set up this project and nothing else."""
    shutil.copytree(base, tmp_path / "models" / "base")
    home = tmp_path / ".local/share/llmops"
    furnish(home, World.cache, forks=False)  # its PATH is in the environment of its own server
    (home / "settings.yaml").write_text(f"# ours\nserving: {{port: {free_port()}}}\n")
    dropped = ("LLMOPS_", "DAGSTER_", "XDG_", "GIT_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    env |= {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    (tmp_path / ".gitconfig").write_text("[user]\n  name = Ada\n  email = ada@example.com\n")
    return env


def test_the_page_leads_from_an_empty_folder_to_an_answer(newcomer: dict[str, str], tmp_path: Path) -> None:
    settings = tmp_path / ".local/share/llmops/settings.yaml"
    port = re.findall(r"port: (\d+)", settings.read_text())[0]
    blocks = shell_blocks(PAGE.read_text())
    assert len(blocks) == 5
    script = "\n".join(["set -e", *(f"printf '\\n=== {n}\\n'\n{block}" for n, block in enumerate(blocks))])
    try:
        done = subprocess.run(
            ["bash", "-c", script.replace(f":{PORT}/", f":{port}/")],
            env=newcomer, cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        said = re.split(r"^=== \d\n", done.stdout, flags=re.MULTILINE)[1:]
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    finally:
        subprocess.run(["llmops", "down", "--forget"], env=newcomer, check=False, capture_output=True)
    made, checked, ran, asked, traced = said
    assert "project my-model" in made and settings.read_text().startswith("# ours\nserving:")
    assert "llmops.yaml is valid: project my-model" in checked
    assert "fine_tuned_checkpoint" in ran and "released" in ran
    assert f"http://127.0.0.1:{port}/my-model/production/v1" in asked
    answer = json.loads(asked[asked.index('{"') :])
    assert answer["choices"][0]["message"]["role"] == "assistant"
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path / "my-model", capture_output=True, text=True)
    assert head.stdout.strip() in traced


def test_every_command_on_the_page_exists() -> None:
    """Includes commands in prose and commands that start servers, which these tests do not run."""
    from typer.main import get_command

    from llmops_assets.cli.app import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    pages = [*PAGE.parent.glob("*.md"), PAGE.parents[1] / "README.md"]
    named = {
        (p.name, word)
        for p in pages
        for word in re.findall(r"(?:`|^)llmops ([a-z][a-z-]*)", p.read_text(), re.MULTILINE)
    }
    assert {(page, word) for page, word in named if word not in known} == set()
    assert ("your-own-project.md", "up") in named


@pytest.mark.parametrize(
    "page", [*sorted(PAGE.parent.glob("*.md")), PAGE.parents[1] / "README.md"], ids=lambda p: p.name
)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in _anchors(file.read_text()), f"{page.name}: {target}"


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub generates from headings."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
