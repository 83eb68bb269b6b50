"""What Dagster shows of a record that a commit reuses without a run."""

import dagster as dg

from llmops_assets.delivery.asset_events import MaterializationHistory
from llmops_assets.delivery.materializations import VERSION


def test_a_reused_record_does_not_repeat_what_was_about_another_champion() -> None:
    """A data diff is against the champion of its run. Copied to a later commit it was against a release that production
    no longer served, although the data had not changed since."""
    metadata = {"train_rows": 9, "data_diff": dg.MetadataValue.md("Against release a"), "data_diff_train_added": 8}
    with dg.DagsterInstance.ephemeral() as instance:
        told = dg.AssetMaterialization(["zoo", "dataset_version"], metadata=metadata, tags={VERSION: "k"})
        instance.report_runless_asset_event(told)
        found = MaterializationHistory(instance, "zoo").metadata("dataset_version", "k")
    assert {name: value.value for name, value in found.items()} == {"train_rows": 9}
