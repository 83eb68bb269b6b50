"""GitHub's own examples of every webhook (npm `@octokit/webhooks-examples`): pushes are read, others are nothing."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.domain.webhooks import Nothing, Push
from resources.webhooks.senders.github import GitHub

PACKAGE = "@octokit/webhooks-examples@7.6.1"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Event → its example payloads."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: GitHub's example payloads come from it")
    folder: Path = tmp_path_factory.mktemp("npm")
    done = subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot fetch {PACKAGE}: {done.stderr[-300:]}")
    shutil.unpack_archive(folder / done.stdout.strip(), folder, filter="data")
    listed = json.loads((folder / "package" / "api.github.com" / "index.json").read_text())
    return {one["name"]: one["examples"] for one in listed}


def test_every_example_of_a_push_is_read(examples: dict[str, list[dict[str, Any]]]) -> None:
    pushes = [GitHub().event({"x-github-event": "push"}, document) for document in examples["push"]]
    assert len(pushes) >= 5
    for event, document in zip(pushes, examples["push"], strict=True):
        assert isinstance(event, Push)
        assert (event.ref, event.deleted) == (document["ref"], document["deleted"])
        assert {document["repository"]["clone_url"], document["repository"]["ssh_url"]} <= set(event.addresses)


def test_every_example_of_a_pull_request_is_read(examples: dict[str, list[dict[str, Any]]]) -> None:
    for document in examples["pull_request"]:
        event = GitHub().event({"x-github-event": "pull_request"}, document)
        new = document["action"] in ("opened", "reopened", "synchronize")
        assert isinstance(event, Push) == new
        assert not isinstance(event, Push) or event.ref == f"refs/pull/{document['number']}/head"


def test_no_other_example_is_taken_for_a_push(examples: dict[str, list[dict[str, Any]]]) -> None:
    others = {name: documents for name, documents in examples.items() if name not in ("push", "pull_request")}
    assert len(others) > 40 and "ping" in others
    for name, documents in others.items():
        for document in documents:
            event = GitHub().event({"x-github-event": name}, document)
            assert isinstance(event, Nothing) and event.ping == (name == "ping")
