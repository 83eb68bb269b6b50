"""What is decided outside of a run reaches a real MLflow server, over HTTP."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.reconciliation import Reconciler
from llmops_assets.domain.chain import COMPARED
from llmops_assets.domain.records import RegisteredModel
from resources.assembly import Clients, build_clients
from resources.tracking.mlflow import COMMIT_TAG, OUTCOME_TAG
from tests.delivery.production import MemoryServing
from tests.support.ports import free_port
from tests.support.projects import World, furnish
from tests.support.records import VALUES, Memory
from tests.support.waiting import wait_for

A, B = "a" * 40, "b" * 40


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[None]:
    furnish(folder, World.cache)
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.sqlite",
         "--default-artifact-root", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port),
         "--workers", "1"],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def answers() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    try:
        wait_for("MLflow", answers)
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    url = f"http://127.0.0.1:{free_port()}"
    project = ProjectSource(name="zoo", repository="/nowhere")
    return build_clients(Settings(home=tmp_path, mlflow=url, projects=(project,)), serving=MemoryServing(weights={}))


def deliver(clients: Clients, revision: str) -> tuple[list[str], RegisteredModel]:
    """The runs of a revision's evaluations, and its model, as a run that waits leaves them in ledger and MLflow."""
    records = Memory().deliver(VALUES, revision).records
    for record in records.values():
        clients.ledger.record_use("zoo", revision, clients.ledger.commit(record), reused=False)
    tags, runs = {COMMIT_TAG: revision, OUTCOME_TAG: "waiting"}, []
    for stage in COMPARED:
        key = records[stage].key
        runs.append(
            clients.tracking.start(
                "zoo", key, name=stage, revision=revision, dagster_run_id="d", params={}, artifacts=clients.store.url
            )
        )
        clients.tracking.tag(runs[-1], tags)
    model = records["registered_model"]
    assert isinstance(model, RegisteredModel)
    source = clients.tracking.client.get_run(runs[0]).info.artifact_uri  # a server takes no other local folder
    version = clients.registry.register(model.name, source, runs[0], {"llmops.checkpoint": "c"})
    assert version == model.version
    clients.registry.tag(model.name, model.version, tags)
    return runs, model


def test_a_rejection_at_a_terminal_is_tagged_and_the_tags_of_another_commit_stay(clients: Clients) -> None:
    """A run tags its own outcome. What a person decides after it was shown as waiting until the next release."""
    port = int(clients.settings.mlflow_uri.rpartition(":")[2])
    reconciler, ledger = Reconciler.of(clients, "zoo"), clients.ledger
    with mlflow_server(clients.settings.home, port):
        runs, model = deliver(clients, A)
        clients.tracking.tag(runs[1], {COMMIT_TAG: B, OUTCOME_TAG: "released"})  # its release serves what B measured
        request = ledger.open_request("zoo", A, 1, "tree changed")
        ledger.claim(request, "run-1")
        ledger.close(request, "waiting", "waiting for review")
        assert reconciler.align_mlflow() is None
        ledger.settle_waiting(ledger.now(request), "rejected", "rejected by eve: it invents animals")
        assert reconciler.align_mlflow() is None
        found = [clients.tracking.tags(run)[OUTCOME_TAG] for run in runs]
        assert found == ["rejected", "released"]
        assert clients.registry.tags(model.name, model.version)[OUTCOME_TAG] == "rejected"
    assert reconciler.align_mlflow() is None, "nothing is asked of it while it is right"
