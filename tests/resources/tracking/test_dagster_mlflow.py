"""A project's own jobs may use dagster-mlflow: what they log must go into the MLflow run that we opened."""

import uuid
from pathlib import Path

import dagster as dg

from resources.tracking.mlflow import Tracking
from tests.support.projects import furnish


def test_dagster_mlflow_continues_in_the_mlflow_run_that_the_stage_opened(tmp_path: Path, cache: Path) -> None:
    from dagster_mlflow import mlflow_tracking

    furnish(tmp_path, cache, forks=False)
    uri, dagster_run = f"sqlite:///{tmp_path}/mlflow.sqlite", str(uuid.uuid4())
    tracking = Tracking(uri)
    ours = tracking.start(
        "zoo", "a" * 64, name="train", revision="b" * 40, dagster_run_id=dagster_run, params={}, artifacts=str(tmp_path)
    )

    @dg.op(required_resource_keys={"mlflow"})
    def log_a_figure(context: dg.OpExecutionContext) -> None:
        context.resources.mlflow.log_metric("animals_seen", 12)

    @dg.job(resource_defs={"mlflow": mlflow_tracking})
    def of_the_project() -> None:
        log_a_figure()

    config = {"resources": {"mlflow": {"config": {"experiment_name": "zoo", "mlflow_tracking_uri": uri}}}}
    assert of_the_project.execute_in_process(run_config=config, run_id=dagster_run).success
    assert tracking.client.get_run(ours).data.metrics == {"animals_seen": 12.0}
