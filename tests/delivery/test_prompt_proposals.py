"""Prompts of a real MLflow server: a moved alias becomes a commit, and a release moves our own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from mlflow import MlflowClient

from llmops_assets.config.proposals import PromptProposal, ProposalSettings
from llmops_assets.config.secrets import FromEnvironment
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.webhooks import WebhookSettings
from llmops_assets.delivery.proposals import Proposals, Proposed
from llmops_assets.delivery.reconciliation import Reconciler
from llmops_assets.domain.approval import Rules, refusals
from llmops_assets.domain.records import Release
from tests.support.ports import free_port
from tests.support.projects import Project, World
from tests.support.waiting import wait_for

ASK, FILE = "zoo-ask", "prompts/ask.jinja"


def released(name: str) -> Release:
    return Release(
        project="zoo", artifact_digest=name, artifact_uri="", file="", chat_template="", engine="llama.cpp", serving={}
    )


@dataclass
class Here:
    """A project, the world that watches it, and the MLflow server of both."""

    project: Project
    world: World
    mlflow: MlflowClient

    def look(self) -> Proposed:
        return Proposals(self.world.settings.projects[0], self.world.clients).run()

    def register(self, template: Any, alias: str = "candidate") -> int:
        """A person registers a version, and moves the alias to it."""
        version = int(self.mlflow.register_prompt(ASK, template).version)
        self.mlflow.set_prompt_alias(ASK, alias, version)
        return version

    def file(self, ref: str) -> bytes | None:
        git = self.world.source().git
        git.fetch()
        return git.read(git.resolve(ref), FILE)

    @property
    def branches(self) -> list[str]:
        lines = self.project.git("ls-remote", "--heads", "origin", "llmops/*").splitlines()
        return [line.split("refs/heads/")[1] for line in lines]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    own = {
        "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_CACHE_TTL": "0",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.sqlite'}",
         "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        env={**os.environ, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/health").status_code == 200
        except httpx.HTTPError:
            return False

    wait_for("MLflow's server", answers)
    yield url
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def here(server: str, make_world: Callable[..., World], tmp_path_factory: pytest.TempPathFactory) -> Here:
    root = tmp_path_factory.mktemp("light")
    (root / "base").mkdir()
    (root / "base" / "config.json").write_text("{}")
    project = Project.create(root / "zoo", "zoo", root / "base")
    project.push()
    proposals = ProposalSettings(prompts=(PromptProposal(name=ASK),), every=3600)
    source = ProjectSource(name="zoo", repository=str(project.remote), proposals=proposals)
    world = make_world(projects=(source,), mlflow=server, webhooks=WebhookSettings(secrets=(FromEnvironment(env="S"),)))
    return Here(project, world, MlflowClient(server, server))


def test_without_the_prompt_the_tick_says_so(here: Here) -> None:
    assert f"MLflow has no prompt {ASK} with the alias candidate" in str(here.look())


def test_an_alias_that_names_what_git_has_proposes_nothing_also_after_a_person_changes_git(here: Here) -> None:
    here.register("Question: {{ input }}")
    assert str(here.look()) == "nothing has moved"
    here.project.write(FILE, "Ask: {{ input }}\n")
    here.project.ship("A person changes the prompt in Git")
    assert here.look().done == () and here.branches == [], "the alias has not moved"


def test_a_moved_alias_is_proposed_once_with_the_text_of_its_version(here: Here) -> None:
    version = here.register("Answer in one line: {{ input }}")
    assert here.look().done
    [branch] = here.branches
    assert here.file(branch) == b"Answer in one line: {{ input }}\n" and here.file("main") == b"Ask: {{ input }}\n"
    git = here.world.source().git
    assert git.message(git.resolve(branch)) == f"prompt: version {version} of {ASK} in MLflow"
    assert here.look().done == () and here.branches == [branch]
    authors = git.authors(git.resolve(branch), here.project.head)
    assert refusals("approved", "llmops-bot@localhost", Rules(), authors)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ question }}", "undefined variable 'question'"),
        ("No input at all", "does not use `input`"),
        ("{% for x in input %}{{ x }}{% endfor %}", "a prompt may use"),
        ("{{ input }}" + "x" * 70_000, "larger than 64 KB"),
        ([{"role": "user", "content": "{{ input }}"}], "a list of messages"),
    ],
)
def test_a_bad_template_is_refused_with_its_reason_and_recorded(here: Here, template: Any, why: str) -> None:
    before = here.branches
    here.register(template)
    for found in (here.look(), here.look()):
        assert found.done == () and "refused" in str(found) and why in str(found)
    row = here.world.ledger.proposals("zoo")[f"prompt {ASK}@candidate"][-1]
    assert row.status == "refused" and why in row.detail and here.branches == before


def test_an_alias_that_moves_back_is_another_move(here: Here) -> None:
    here.mlflow.set_prompt_alias(ASK, "candidate", 2)
    found = here.look()
    assert found.done and here.file(here.branches[0]) == b"Answer in one line: {{ input }}\n", str(found)


def test_a_release_in_production_moves_our_alias_and_a_text_without_a_version_gets_one(here: Here) -> None:
    clients, ledger = here.world.clients, here.world.ledger
    source = here.world.source()
    source.git.fetch()
    reconciler = Reconciler.of(clients, "zoo")
    with pytest.raises(Exception, match="production"):
        here.mlflow.get_prompt_version_by_alias(ASK, "production")
    assert reconciler._align_prompts() is None, "nothing is in production"
    made = released("a")
    ledger.add_release(made, here.project.head)
    ledger.serve("zoo", "production", made.digest, here.project.head)
    wait_for("the alias", lambda: reconciler._align_prompts() is None)
    ours = here.mlflow.get_prompt_version_by_alias(ASK, "production")
    assert ours.template.strip() == "Ask: {{ input }}" and ours.tags["llmops.commit"] == here.project.head
    first = here.project.git("rev-list", "--max-parents=0", "HEAD")
    back = released("b")
    ledger.add_release(back, first)
    ledger.serve("zoo", "production", back.digest, first)
    wait_for("the alias", lambda: reconciler._align_prompts() is None)
    assert int(here.mlflow.get_prompt_version_by_alias(ASK, "production").version) == 1, "its text has a version"
    assert here.look().done == (), "our own alias proposes nothing"
