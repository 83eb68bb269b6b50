"""Prompts of a real MLflow server: a moved alias becomes a commit, and a release moves our own."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.fernet import Fernet

from llmops_assets.config.proposals import PromptProposal, ProposalSettings
from llmops_assets.config.secrets import FromEnvironment
from llmops_assets.config.settings_file import dump_settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.webhooks import WebhookSettings
from llmops_assets.delivery.proposals import Proposals, Proposed
from llmops_assets.delivery.reconciliation import Reconciler
from llmops_assets.domain.approval import Rules, refusals
from llmops_assets.domain.records import Release
from llmops_assets.domain.webhooks import PROPOSALS, PROPOSES_TAG
from resources.webhooks.deliveries import Deliveries
from resources.webhooks.receiver import Receiver
from resources.webhooks.sensor_ticks import SensorTicks
from resources.webhooks.server import server as receiving
from resources.webhooks.wakes import Wakes
from tests.support.ports import free_port
from tests.support.projects import Project, World, furnish
from tests.support.waiting import wait_for
from tests.support.webhooks import SECRET

if TYPE_CHECKING:
    from mlflow import MlflowClient

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
    mlflow: "MlflowClient"

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
    furnish(folder, World.cache)
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

    try:
        wait_for("MLflow's server", answers)
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def here(server: str, make_world: Callable[..., World], tmp_path_factory: pytest.TempPathFactory) -> Here:
    from mlflow import MlflowClient

    root = tmp_path_factory.mktemp("light")
    (root / "base").mkdir()
    (root / "base" / "config.json").write_text("{}")
    project = Project.create(root / "zoo", "zoo", root / "base")
    project.push()
    proposals = ProposalSettings(prompts=(PromptProposal(name=ASK),), every=3600)
    source = ProjectSource(name="zoo", repository=str(project.remote), proposals=proposals)
    receiver = WebhookSettings(port=free_port(), secrets=(FromEnvironment(env="S"),))
    world = make_world(projects=(source,), mlflow=server, webhooks=receiver, dagster_on_disk=True)
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


@pytest.fixture
def ticks(here: Here, monkeypatch: pytest.MonkeyPatch) -> Iterator[SensorTicks]:
    """The sensors of the location in its own code server; a person has stopped and started the one that proposes."""
    world = here.world
    file = world.home / "settings.yaml"
    file.write_text(dump_settings(world.settings))
    for name, value in {"LLMOPS_HOME": str(world.home), "LLMOPS_SETTINGS": str(file), "S": SECRET}.items():
        monkeypatch.setenv(name, value)
    workspace = Path(__file__).parents[2] / "workspace.yaml"
    with SensorTicks(world.instance, [str(workspace)], logging.getLogger("ticks")) as ticks:
        [sensor] = ticks._sensors(f"{PROPOSALS}zoo")
        assert sensor.name == "zoo_proposals" and sensor.tags[PROPOSES_TAG] == "zoo"
        assert "has not begun" in ticks.look(f"{PROPOSALS}zoo").said
        world.instance.stop_sensor(sensor.get_remote_origin_id(), sensor.selector_id, sensor)
        assert "is stopped" in ticks.look(f"{PROPOSALS}zoo").said
        world.instance.start_sensor(sensor)
        yield ticks


def test_a_move_that_mlflows_server_announces_is_proposed_although_the_next_look_is_an_hour_away(
    here: Here, ticks: SensorTicks, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow signs and delivers by itself; nothing but its delivery can have had the sensor look."""
    caplog.set_level(logging.INFO, "llmops.webhooks")
    settings = here.world.settings
    assert settings.webhooks is not None
    looks: list[str] = []
    wakes = Wakes(lambda project: (looks.append(project), ticks.look(project))[1], poll_s=3600)
    served = receiving(Receiver(settings, Deliveries(here.world.home / "d.sqlite"), wakes.wake).app, settings.webhooks)
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    wait_for("the receiver", lambda: served.started)
    try:
        wait_for("the first look", lambda: "for a person to merge it" in ticks.look(f"{PROPOSALS}zoo").said)
        url = f"http://127.0.0.1:{settings.webhooks.port}/webhooks/mlflow"
        wrong = here.mlflow.create_webhook("wrong", url, ["prompt_alias.created"], secret="another secret")
        refused = here.mlflow.test_webhook(wrong.webhook_id)
        assert refused.response_status == 401 and "matches no secret" in (refused.response_body or "")
        here.mlflow.delete_webhook(wrong.webhook_id)
        here.mlflow.create_webhook("llmops", url, ["prompt_alias.created"], secret=SECRET)
        here.register("Announced: {{ input }}")
        wait_for("the proposal", lambda: [b for b in here.branches if here.file(b) == b"Announced: {{ input }}\n"])
        assert looks == [f"{PROPOSALS}zoo"], "one move, one look"
        here.register("Our own alias is no candidate: {{ input }}", alias="production")
        wait_for("its delivery", lambda: f"prompts:/{ASK}@production is proposed to no project" in caplog.text)
        assert looks == [f"{PROPOSALS}zoo"]
    finally:
        served.should_exit = True
        thread.join()
