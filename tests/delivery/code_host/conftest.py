"""A ledger and the answers of a project on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.code_host import CodeHostAnswers
from resources.assembly import build_clients
from resources.ledger import Ledger
from tests.delivery.code_host.answers import Make
from tests.delivery.production import Clock as Monotonic
from tests.support.github import GitHubServer
from tests.support.ledgers import Clock


@pytest.fixture
def own(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'own.sqlite'}", clock)
    yield ledger
    ledger.engine.dispose()


@pytest.fixture
def make(tmp_path: Path, github: GitHubServer) -> Make:
    """Makes a project's answers, as each process has its own."""

    def make(ledger: Ledger, **credentials: Any) -> CodeHostAnswers:
        credentials = credentials or {"token": {"env": "GITHUB_TOKEN_OF_TESTS"}}
        host = {"via": "github", "api": github.url, "repository": "o/zoo", **credentials}
        project = ProjectSource.model_validate({"name": "zoo", "repository": "/nowhere", "code_host": host})
        settings = Settings(home=tmp_path, projects=(project,), dagster_ui="https://dagster.example.com")
        return CodeHostAnswers(project, build_clients(settings, ledger=ledger), Monotonic())

    return make
