"""The chain under profile cluster on a real PostgreSQL and a real S3 server, in one process instead of pods.

A cluster adds only the scheduling of pods; `tests/cluster` validates their Jobs against Kubernetes' schemas.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_assets.config.secrets import FromEnvironment
from llmops_assets.domain.chain import WORK
from llmops_assets.domain.records import QuantizedArtifact
from tests.support.extras import needs
from tests.support.projects import Project, World, furnish
from tests.support.seaweed import Seaweed

pytestmark = needs("s3fs", "aws")
STORE = "s3://llmops-chain/store"


@pytest.fixture(scope="module")
def state(
    tmp_path_factory: pytest.TempPathFactory, new_ledger_url: Callable[[str, Path], str]
) -> Iterator[tuple[str, str]]:
    """The URLs (ledger, MLflow) that all pods share; the S3 server runs, with its credentials in the environment."""
    folder = tmp_path_factory.mktemp("state")
    furnish(folder, World.cache)
    ledger = new_ledger_url("postgres", folder)
    server = Seaweed(folder)
    patch = pytest.MonkeyPatch()
    try:
        server.wait()
        for name, value in server.environment.items():
            patch.setenv(name, value)
        patch.setenv("LLMOPS_TEST_LEDGER", ledger)
        patch.setenv("LLMOPS_TEST_MLFLOW", f"sqlite:///{folder}/mlflow.sqlite")
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("llmops-chain")
        yield ledger, f"sqlite:///{folder}/mlflow.sqlite"
    finally:
        patch.undo()
        server.stop()


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Project]) -> Project:
    project = make_project()
    project.push()
    return project


def test_a_push_is_trained_and_evaluated_and_stops_before_it_would_be_served(
    state: tuple[str, str], project: Project, make_world: Callable[..., World]
) -> None:
    world = make_world(
        project,
        preload=True,
        profile="cluster",
        ledger=FromEnvironment(env="LLMOPS_TEST_LEDGER"),
        store=STORE,
        mlflow=FromEnvironment(env="LLMOPS_TEST_MLFLOW"),
    )
    outcome = world.settle()
    assert outcome.computed == {s.name for s in WORK}
    assert "profile cluster cannot serve yet" in outcome.failures
    request = world.ledger.requests("zoo")[-1]
    assert (request.status, request.generation) == ("failed", 1), "nobody's retry would help"
    assert world.ledger.serving("zoo", "staging") is None and world.ledger.serving("zoo", "production") is None
    assert world.ledger.verify_audit() > 0
    assert not (world.home / "store").exists() and not (world.home / "ledger.sqlite").exists()


def test_a_local_location_on_the_same_ledger_and_store_serves_it_without_computing_anything(
    state: tuple[str, str], project: Project, make_world: Callable[..., World]
) -> None:
    """This is the remedy that the error message proposes."""
    world = make_world(project, ledger=state[0], store=STORE, mlflow=state[1])
    stages = ("staging_endpoint", "smoke_test_report", "release_approval", "production_endpoint")
    result = world.materialize("zoo", *(s.name for s in WORK), *stages)
    assert result.success, [e.message for e in result.all_events if e.is_step_failure]
    assert not list((world.home / "jobs").glob("train-*"))
    (endpoint,) = [e for e in world.clients.serving.endpoints("zoo") if e.environment == "production"]
    assert endpoint.status == "serving"
    artifact = world.ledger.records_of("zoo", project.head)["quantized_artifact"]
    assert isinstance(artifact, QuantizedArtifact)
    copy = world.home / "store-cache" / artifact.digest / artifact.file
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    result = world.materialize("zoo", "staging_endpoint")
    assert result.success and copy.read_bytes() == whole, "a damaged copy here is brought again"
    assert world.ledger.find(artifact.key) == artifact, "and not held against the store"
