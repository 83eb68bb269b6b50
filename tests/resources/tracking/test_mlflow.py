"""MLflow mirrors the ledger, and a repeated step creates no duplicates. Uses MLflow's own SQLite store."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.model_registry.mlflow import MlflowRegistry
from resources.tracking.mlflow import Origin, Tracking, UsedDataset
from resources.tracking.mlflow_server import MlflowServer
from tests.support.projects import furnish

KEY = "k" * 64


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Tracking]:
    folder = tmp_path_factory.mktemp("mlflow")
    furnish(folder / "home", cache, forks=False)
    yield Tracking(f"sqlite:///{folder / 'home' / 'mlflow.sqlite'}", lambda: "http://127.0.0.1:5000")


@pytest.fixture
def registry(tracking: Tracking) -> MlflowRegistry:
    return MlflowRegistry(tracking.server)


def start(tracking: Tracking, key: str = KEY, run: str = "dagster-1") -> str:
    return tracking.start(
        "zoo", key, name="abc lora", revision="a" * 40, dagster_run_id=run, params={"r": 16, "long": "x" * 900},
        artifacts="/store",
    )  # fmt: skip


def test_constructing_one_does_no_io(tmp_path: Path) -> None:
    Tracking(f"sqlite:///{tmp_path / 'home' / 'mlflow.sqlite'}")
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_is_resumed_continues_in_the_run_that_it_began(tracking: Tracking) -> None:
    first = start(tracking)
    tracking.log(first, {"loss": 2.0}, 1)
    tracking.finish(first, "KILLED")
    assert start(tracking, run="dagster-2") == first
    tracking.log(first, {"loss": 1.0}, 2)
    run = tracking.client.get_run(first)
    assert run.info.status == "RUNNING" and run.data.tags["dagster_run_id"] == "dagster-2"
    assert run.data.params["r"] == "16" and len(run.data.params["long"]) == 500
    assert [(m.step, m.value) for m in tracking.client.get_metric_history(first, "loss")] == [(1, 2.0), (2, 1.0)]
    tracking.finish(first)
    assert tracking.client.get_run(first).info.status == "FINISHED"


def test_another_key_is_another_run(tracking: Tracking) -> None:
    assert start(tracking) != start(tracking, "other")


def test_a_checkpoint_is_one_version_however_often_it_is_registered(
    tracking: Tracking, registry: MlflowRegistry
) -> None:
    one = registry.register("zoo", "/store/a", start(tracking), {"llmops.checkpoint": "digest-1"})
    other = registry.register("zoo", "/store/b", None, {"llmops.checkpoint": "digest-2"})
    assert (one, other) == (1, 2)
    assert registry.register("zoo", "/store/a", None, {"llmops.checkpoint": "digest-1"}) == one
    assert registry.register("farm", "/store/a", None, {"llmops.checkpoint": "digest-1"}) == 1


def test_an_alias_moves_to_the_version_that_serves(registry: MlflowRegistry) -> None:
    versions = [registry.register("alias", f"/store/{d}", None, {"llmops.checkpoint": d}) for d in ("1", "2")]
    for version in versions:
        registry.set_alias("alias", "champion", version)
        assert int(registry.server.client.get_model_version_by_alias("alias", "champion").version) == version


def test_an_evaluation_is_a_run_of_its_own_under_the_training_with_its_source_user_and_rows(
    tracking: Tracking, tmp_path: Path
) -> None:
    """All evaluations of a checkpoint wrote into the training's run: those of a rejected commit replaced the figures of
    the released one. Neither the rows nor the author were recorded."""
    from mlflow.data import get_source

    training, figures = start(tracking), {}
    for commit, value in (("b" * 40, 1.0), ("c" * 40, 9.0)):
        (tmp_path / "test.jsonl").write_text("{}\n")
        rows = UsedDataset("data/test.jsonl", "d" * 64, f"{tmp_path}/test.jsonl", 8, "evaluation", "dvc:abc")
        run_id = tracking.start(
            "zoo", f"key of {commit}", name="evaluation", revision=commit, dagster_run_id="d", params={},
            artifacts="/store", parent=training, origin=Origin("https://example.com/zoo", "main", "Ada <a@b.c>"),
            datasets=[rows],
        )  # fmt: skip
        tracking.log(run_id, {"served/perplexity": value}, 0)
        run = tracking.client.get_run(run_id)
        figures[run.data.tags["mlflow.source.git.commit"][0]] = run.data.metrics["served/perplexity"]
        assert run.data.tags["mlflow.parentRunId"] == training
        assert run.data.tags["mlflow.user"] == "Ada <a@b.c>"
        assert run.data.tags["mlflow.source.name"] == "https://example.com/zoo"
        [used] = run.inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == ("data/test.jsonl", "d" * 36)
        assert {t.key: t.value for t in used.tags} == {
            "mlflow.data.context": "evaluation",
            "llmops.version": "dvc:abc",
        }
        assert get_source(used.dataset).load() == f"{tmp_path}/test.jsonl"
    assert figures == {"b": 1.0, "c": 9.0}
    assert "served/perplexity" not in tracking.client.get_run(training).data.metrics
    assert tracking.find("zoo", "key of " + "b" * 40) and tracking.find("zoo", "never") == ""


def test_a_version_is_tagged_with_its_release(registry: MlflowRegistry) -> None:
    version = registry.register("tags", "/store/t", None, {"llmops.checkpoint": "t"})
    registry.tag("tags", version, {"llmops.outcome": "released"})
    assert registry.tags("tags", version) == {"llmops.checkpoint": "t", "llmops.outcome": "released"}


def test_links_lead_to_the_run_and_the_version_if_there_is_a_ui(
    tracking: Tracking, registry: MlflowRegistry, tmp_path: Path
) -> None:
    run = start(tracking)
    assert (tracking.run_url("zoo", run) or "").endswith(f"/runs/{run}?workflowType=machine_learning")
    page = registry.model_url("zoo", 3)
    assert page == "http://127.0.0.1:5000/#/models/zoo/versions/3?workflowType=machine_learning"
    assert tracking.run_url("zoo", "") is None and tracking.run_url("never seen", run) is None
    silent = Tracking(f"sqlite:///{tmp_path / 'mlflow.sqlite'}")
    assert silent.run_url("zoo", run) is None and MlflowRegistry(silent.server).model_url("zoo", 3) is None


@pytest.mark.parametrize(
    ("uri", "page"), [("https://me:secret@mlflow.example.com/", "https://mlflow.example.com"), ("sqlite:///x", None)]
)
def test_a_server_is_its_own_page_and_its_password_is_in_no_link(uri: str, page: str | None) -> None:
    assert MlflowServer(uri).ui == page


AT_ONCE = """
import os, sys
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import mlflow.store.tracking.sqlalchemy_store
from resources.tracking.mlflow import Tracking

def look():
    Tracking(sys.argv[1]).client.search_experiments()
    os._exit(0)

at_once = [pid for _ in range(3) if (pid := os.fork()) or look()]
sys.exit(any([os.waitpid(pid, 0)[1] for pid in at_once]))
"""
"""Three processes, whose libraries are imported already: they meet at once."""


def test_processes_that_meet_over_a_new_database_all_find_it_complete(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    done = subprocess.run([sys.executable, "-c", AT_ONCE, uri], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
