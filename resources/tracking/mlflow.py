"""MLflow runs, which show a training live. The model registry belongs in `resources.model_registry`.

dagster-mlflow's `mlflow_tracking` opens a run when its resource is initialised, closes it from a job hook (which a
click on Materialize does not run) and gives each retry a new run. Here a run belongs to a *key*: a resumed training
continues its MLflow run. An evaluation has a run of its own, nested under the training's. The tag `dagster_run_id` is
dagster-mlflow's, so both UIs are linked.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.tracking.mlflow_server import VIEW, MlflowServer

OF_TRAINING = {"mlflow.experimentKind": "custom_model_development"}


COMMIT_TAG, RELEASE_TAG, OUTCOME_TAG = "llmops.commit", "llmops.release", "llmops.outcome"
"""Tags of evaluations and of model versions, as the ledger has them."""
COLLECTED_TAG = "llmops.collected"
"""Of a run or model version whose artifact garbage collection has deleted: when, why, and how to remake it."""
WAITS_TAG = "llmops.waits_for"
"""What a model waits for, and the command that decides; empty when that is over."""


@dataclass(frozen=True)
class Origin:
    """Where a run comes from, for MLflow's columns Source, Version and User."""

    repository: str
    branch: str
    author: str


@dataclass(frozen=True)
class UsedDataset:
    """Rows that a run read: their digest and place in the artifact store, and their DVC version in the project."""

    name: str
    digest: str
    uri: str
    rows: int
    context: str
    version: str


class Tracking:
    """A thin typed client of MLflow's runs. The constructor does no I/O."""

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
        parent: str = "",
        origin: Origin | None = None,
        datasets: Sequence[UsedDataset] = (),
    ) -> str:
        """Finds or opens the run of this key; returns its id. `note` is the description that MLflow's UI shows.

        Args:
            parent: the run under which it is nested.
        """
        experiment = self._experiment(project, artifacts)
        run_id = self._find(experiment, key)
        if run_id:
            self.client.update_run(run_id, status="RUNNING")
            if COLLECTED_TAG in self.tags(run_id):
                self.client.delete_tag(run_id, COLLECTED_TAG)
        else:
            tags = {"llmops.key": key, COMMIT_TAG: revision, **_source_tags(revision, origin)}
            if parent:
                tags["mlflow.parentRunId"] = parent
            run_id = str(self.client.create_run(experiment, run_name=name, tags=tags).info.run_id)
            for param, value in _flat(params):
                self.client.log_param(run_id, param, str(value)[:500])
            if datasets:
                self.client.log_inputs(run_id, datasets=[_dataset_input(d) for d in datasets])
        self.client.set_tag(run_id, "dagster_run_id", dagster_run_id)
        self.client.set_tag(run_id, "mlflow.note.content", note)
        return run_id

    def _find(self, experiment: str, key: str) -> str:
        found = self.client.search_runs([experiment], filter_string=f"tags.`llmops.key` = '{key}'", max_results=1)
        return str(found[0].info.run_id) if found else ""

    def find(self, project: str, key: str) -> str:
        """The id of the run of this key; empty if there is none."""
        experiment = self.client.get_experiment_by_name(project)
        return self._find(str(experiment.experiment_id), key) if experiment else ""

    def tags(self, run_id: str) -> dict[str, str]:
        return dict(self.client.get_run(run_id).data.tags)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self.client.set_tag(run_id, name, value)

    def log(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        """Logs the metrics of one training step."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(run_id, metrics=[Metric(k, float(v), now, step) for k, v in metrics.items()])

    def finish(self, run_id: str, status: str = "FINISHED") -> None:
        self.client.set_terminated(run_id, status=status)

    def log_report(self, run_id: str, report: Path, name: str) -> None:
        """Logs a page as an artifact of the run, in the folder `name`. MLflow's UI renders it."""
        self.client.log_artifact(run_id, str(report), name)

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


def _source_tags(revision: str, origin: Origin | None) -> dict[str, str]:
    tags = {"mlflow.source.git.commit": revision, "mlflow.source.type": "PROJECT"}
    if origin is not None:
        tags |= {
            "mlflow.source.name": origin.repository,
            "mlflow.source.git.repoURL": origin.repository,
            "mlflow.source.git.branch": origin.branch,
            "mlflow.user": origin.author,
        }
    return tags


def _dataset_input(used: UsedDataset) -> Any:
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two of its own classes can read a folder
            source = resolve_dataset_source(used.uri)
        kind, said = source._get_source_type(), source.to_json()
    except MlflowException:  # MLflow cannot read from this kind of store
        kind, said = "artifact_store", json.dumps({"uri": used.uri})
    dataset = Dataset(
        name=used.name,
        digest=used.digest[:36],  # MLflow's limit
        source_type=kind,
        source=said,
        profile=json.dumps({"num_rows": used.rows}),
    )
    tags = {"mlflow.data.context": used.context, "llmops.version": used.version}
    return DatasetInput(dataset, tags=[InputTag(name, value) for name, value in tags.items()])


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flattens to one parameter per value, so that MLflow can compare runs by each; omits unset values."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value
