"""Tells Dagster's asset pages and MLflow's runs that a result's artifact was collected.

Both would offer a report or a checkpoint that is gone. The ledger has the tombstone already, so a fault here changes
nothing: it is returned as text.
"""

import dagster as dg

from llmops_assets.domain.formatting import on_date
from llmops_assets.domain.garbage import Result
from llmops_assets.domain.keys import short
from resources.tracking.mlflow import COLLECTED_TAG, Tracking


class Tombstones:
    """The pages of one garbage collection."""

    def __init__(self, instance: dg.DagsterInstance, tracking: Tracking):
        self.instance, self.tracking = instance, tracking
        self.fault: str | None = None
        """Why MLflow's runs do not show it. After one fault no other run is tried: each would wait for minutes."""

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
        try:
            run = self.tracking.find(result.project, result.key)
            if run:
                note = self.tracking.tags(run).get("mlflow.note.content", "")
                self.tracking.tag(run, {COLLECTED_TAG: text, "mlflow.note.content": f"**{text}**\n\n{note}"})
        except Exception as error:  # MLflow is a view: whatever is wrong with it, the artifact is gone
            return f"MLflow does not show what was collected: {type(error).__name__}: {str(error)[:300]}"
        return None
