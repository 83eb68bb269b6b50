"""What Dagster shows of a record that a commit reuses without a run."""

from collections.abc import Iterator

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


def test_a_check_that_a_run_planned_and_skipped_hides_no_page_of_an_earlier_verdict() -> None:
    """After a rejection, the newest entry in the history of each skipped stage's check was only a plan. The next commit
    reused the stage's result, and the sensor's tick ended with an AttributeError instead of showing it."""
    passes = [True]
    verdict = Verdict(subject="it", report="r", champion="a" * 64, reasons=("rougeL 5, minimum 1",))
    key = dg.AssetKey(["zoo", "served_evaluation_report"])

    @dg.asset(key_prefix="zoo", output_required=False)
    def registered_model() -> Iterator[dg.MaterializeResult[None]]:
        if passes[0]:
            yield dg.MaterializeResult()

    @dg.asset(key_prefix="zoo", deps=[registered_model], check_specs=[dg.AssetCheckSpec("gates", asset=key)])
    def served_evaluation_report() -> Iterator[dg.MaterializeResult[None]]:
        metadata = {"champion": "a" * 12, "report": dg.MetadataValue.url("http://page.example")}
        check = dg.AssetCheckResult(passed=True, check_name="gates", description=verdict.text, metadata=metadata)
        yield dg.MaterializeResult(check_results=[check])

    with dg.DagsterInstance.ephemeral() as instance:
        for passes[0] in (True, False):
            assert dg.materialize([registered_model, served_evaluation_report], instance=instance).success
        newest, _ = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(key, "gates"), 9)
        assert newest.status.value == "PLANNED", "the second run skipped it"
        history = MaterializationHistory(instance, "zoo")
        found = history.written_for("served_evaluation_report", "gates", verdict)
        assert {name: value.value for name, value in found.items()} == {"report": "http://page.example"}
        assert history.judged_page("served_evaluation_report") is None and history.looks_bad("served_evaluation_report")
