"""MLflow runs, which show a training live. The model registry belongs in `resources.model_registry`.

dagster-mlflow's `mlflow_tracking` opens a run when its resource is initialised, closes it from a job hook (which a
click on Materialize does not run) and gives each retry a new run. Here a run belongs to a *key*: a resumed training
continues its MLflow run. The tag `dagster_run_id` is dagster-mlflow's, so both UIs are linked.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from resources.tracking.mlflow_server import VIEW, MlflowServer

OF_TRAINING = {"mlflow.experimentKind": "custom_model_development"}


class Tracking:
    """A thin typed client. Constructing it does no I/O."""

    def __init__(self, uri: str, ui: Callable[[], str | None] = lambda: None):
        """`ui` returns the address of MLflow's UI, if there is one; it is called for each link."""
        self.server = MlflowServer(uri, ui)

    @property
    def client(self) -> Any:
        return self.server.client

    def _experiment(self, project: str, artifacts: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(project)
        if found is None:
            try:
                folder = f"{artifacts}/mlflow/{project}"
                return str(self.client.create_experiment(project, artifact_location=folder, tags=OF_TRAINING))
            except MlflowException:
                found = self.client.get_experiment_by_name(project)  # another process created it
        return str(found.experiment_id)

    def start(
        self,
        project: str,
        key: str,
        *,
        name: str,
        revision: str,
        dagster_run_id: str,
        params: Mapping[str, Any],
        artifacts: str,
        note: str = "",
    ) -> str:
        """Finds or opens the run of this key; returns its id. `note` is the description that MLflow's UI shows."""
        experiment = self._experiment(project, artifacts)
        found = self.client.search_runs([experiment], filter_string=f"tags.`llmops.key` = '{key}'", max_results=1)
        if found:
            run_id = str(found[0].info.run_id)
            self.client.update_run(run_id, status="RUNNING")
        else:
            tags = {"llmops.key": key, "mlflow.source.git.commit": revision, "mlflow.source.type": "JOB"}
            run_id = str(self.client.create_run(experiment, run_name=name, tags=tags).info.run_id)
            for param, value in _flat(params):
                self.client.log_param(run_id, param, str(value)[:500])
        self.client.set_tag(run_id, "dagster_run_id", dagster_run_id)
        self.client.set_tag(run_id, "mlflow.note.content", note)
        return run_id

    def log(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of one training step."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(run_id, metrics=[Metric(k, float(v), now, step) for k, v in metrics.items()])

    def finish(self, run_id: str, status: str = "FINISHED") -> None:
        self.client.set_terminated(run_id, status=status)

    def log_report(self, run_id: str, report: Path, name: str, figures: Mapping[str, float]) -> None:
        """Logs a report as an artifact of the run, which MLflow's UI renders, and its figures as metrics."""
        if run_id:
            self.client.log_artifact(run_id, str(report), name)
            self.log(run_id, figures, 0)

    def report_url(self, project: str, run_id: str, name: str) -> str | None:
        return self._run_page(project, run_id, f"/artifacts/{name}/report.html")

    def run_url(self, project: str, run_id: str) -> str | None:
        """The run's page in MLflow's UI, if its address is known."""
        return self._run_page(project, run_id, "")

    def _run_page(self, project: str, run_id: str, part: str) -> str | None:
        ui = self.server.ui
        if not ui or not run_id:
            return None
        experiment = self.client.get_experiment_by_name(project)
        return f"{ui}/#/experiments/{experiment.experiment_id}/runs/{run_id}{part}{VIEW}" if experiment else None


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flattens to one parameter per value, so that MLflow can compare runs by each; omits unset values."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value
