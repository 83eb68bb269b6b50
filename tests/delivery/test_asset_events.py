"""What Dagster shows of a record that a commit reuses without a run."""

import dagster as dg

from llmops_assets.delivery.asset_events import MaterializationHistory
from llmops_assets.delivery.materializations import VERSION
from llmops_assets.domain.verdict import Verdict


def test_a_reused_record_does_not_repeat_what_was_about_another_champion() -> None:
    """A data diff is against the champion of its run. Copied to a later commit it was against a release that production
    no longer served, although the data had not changed since."""
    metadata = {"train_rows": 9, "data_diff": dg.MetadataValue.md("Against release a"), "data_diff_train_added": 8}
    with dg.DagsterInstance.ephemeral() as instance:
        told = dg.AssetMaterialization(["zoo", "dataset_version"], metadata=metadata, tags={VERSION: "k"})
        instance.report_runless_asset_event(told)
        found = MaterializationHistory(instance, "zoo").metadata("dataset_version", "k")
    assert {name: value.value for name, value in found.items()} == {"train_rows": 9}


def test_a_reused_report_keeps_the_page_and_the_review_that_were_written_for_its_verdict() -> None:
    """The check of a report that a commit reused without a run had the reasons only: the reviewer's part was lost."""

    def shown(text: str, champion: str, **metadata: str) -> dg.AssetCheckEvaluation:
        return dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(["zoo", "evaluation_report"]), check_name="gates", passed=True, description=text,
            metadata={"champion": champion, **{n: dg.MetadataValue.md(v) for n, v in metadata.items()}},
        )  # fmt: skip

    verdict = Verdict(subject="it", report="r", champion="a" * 64, reasons=("rougeL 5, minimum 1",))
    with dg.DagsterInstance.ephemeral() as instance:
        for check in (
            shown(verdict.text, "b" * 12, review="of another champion"),
            shown(verdict.text, "a" * 12, review="earlier"),
            shown(verdict.text, "a" * 12, review="rows lost and won", report="page"),
            shown("another verdict", "a" * 12, review="of another verdict"),
            shown(verdict.text, "a" * 12),
        ):
            instance.report_runless_asset_event(check)
        found = MaterializationHistory(instance, "zoo").written_for("evaluation_report", "gates", verdict)
        assert {name: value.value for name, value in found.items()} == {"review": "rows lost and won", "report": "page"}
        none = MaterializationHistory(instance, "zoo").written_for("served_evaluation_report", "gates", verdict)
        assert none == {}
