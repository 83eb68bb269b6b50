"""Tells Dagster's asset pages and MLflow's runs and model versions that a result's artifact was collected.

They would offer a report or a checkpoint that is gone. The ledger has the tombstone already, so a fault here changes
nothing: it is returned as text.
"""

import dagster as dg

from llmops_assets.domain.formatting import on_date
from llmops_assets.domain.garbage import Result
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Checkpoint, RegisteredModel
from resources.assembly import Clients
from resources.tracking.mlflow import COLLECTED_TAG


class Tombstones:
    """The pages of one garbage collection."""

    def __init__(self, instance: dg.DagsterInstance, clients: Clients):
        self.instance, self.clients = instance, clients
        self.fault: str | None = None
        """Why MLflow does not show it. After one fault no other run is tried: each would wait for minutes."""

    def tell(self, result: Result, at: float, why: str) -> None:
        """Shows one collected result; `why` names the rule."""
        if not result.project:
            return
        remake = f"llmops run {result.project} --revision {short(result.revision)}"
        text = f"collected on {on_date(at)}: {why}; remake it by `{remake}`"
        metadata = {
            "collected": on_date(at),
            "policy": why,
            "remake": f"`{remake}`",
            "commit": short(result.revision),
            "key": result.key,
        }
        event = dg.AssetObservation([result.project, result.stage], description=text, metadata=metadata)
        self.instance.report_runless_asset_event(event)
        if self.fault is None:
            self.fault = self._tag(result, text)

    def _tag(self, result: Result, text: str) -> str | None:
        tracking = self.clients.tracking
        try:
            run = tracking.find(result.project, result.key)
            if run:
                note = tracking.tags(run).get("mlflow.note.content", "")
                tracking.tag(run, {COLLECTED_TAG: text, "mlflow.note.content": f"**{text}**\n\n{note}"})
            self._tag_version(result, text)
        except Exception as error:  # MLflow is a view: whatever is wrong with it, the artifact is gone
            return f"MLflow does not show what was collected: {type(error).__name__}: {str(error)[:300]}"
        return None

    def _tag_version(self, result: Result, text: str) -> None:
        """The registered version of a collected checkpoint references its weights: loading it fails from now on."""
        records = self.clients.ledger.records_of(result.project, result.revision)
        checkpoint, model = records.get("fine_tuned_checkpoint"), records.get("registered_model")
        if not isinstance(checkpoint, Checkpoint) or not isinstance(model, RegisteredModel):
            return
        if checkpoint.key == result.key and checkpoint.digest == model.checkpoint_digest:
            self.clients.registry.tag(model.name, model.version, {COLLECTED_TAG: text})
