"""DORA's measures of a real repository: which commits each deployment brought, and within which window."""

import time
from pathlib import Path

import pytest

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.dora import dora_of
from resources.ledger import Ledger
from resources.project_source.revisions import ProjectRepository
from tests.support.projects import Project

HOUR = 3600.0


def test_a_deployment_counts_its_own_commits_also_if_the_one_before_is_out_of_the_window(
    project: Project, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home", projects=(ProjectSource(name="zoo", repository=str(project.remote)),))
    settings.home.mkdir()
    source, now = ProjectRepository(settings.projects[0], settings), [time.time() + HOUR]
    ledger = Ledger(settings.ledger_url, clock=lambda: now[0])
    first = project.push()
    ledger.serve("zoo", "production", "1" * 64, first)
    project.write("a.txt", "a")
    project.commit("A")
    project.write("b.txt", "b")
    project.commit("B")
    second = project.push()
    source.git.fetch()
    now[0] += 9 * HOUR
    ledger.serve("zoo", "production", "2" * 64, second)

    whole = dora_of(source, ledger, days=1)
    assert (whole.deployments, whole.changes) == (2, 3), "the first commit, and the two after it"
    last = dora_of(source, ledger, days=0.25)
    assert (last.deployments, last.changes) == (1, 2)
    assert last.lead_time_s == pytest.approx(10 * HOUR, abs=600)
