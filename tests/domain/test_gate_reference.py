"""What a gate compares with: champion, baseline, the model before quantization, measured alike or not at all."""

import math
from typing import Any

import numpy as np
import pytest

from llmops_assets.domain.gate import judge
from llmops_assets.domain.gate_inputs import NO_BASELINE, Champion, Judged
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.records import EvaluationReport, Metric
from llmops_assets.domain.verdict import Verdict
from tests.domain.gates import NO_ROWS, NOT_WORSE, champion, report, scored, verdict
from tests.support.records import measured


@pytest.mark.parametrize("other", [{"test_digest": "other rows"}, {"metrics_digest": "other metrics"}])
@pytest.mark.parametrize("against", ["champion", "unquantized"])
def test_a_comparison_across_other_rows_or_metrics_fails(other: dict[str, Any], against: Any) -> None:
    evidence: dict[str, Any] = (
        {"champion": champion(99, **other)} if against == "champion" else {"unquantized": report(99, **other)}
    )
    gate = Gate(metric="perplexity", of="served", no_worse_than=against)
    found = verdict(gate, report(), **evidence)
    assert found.failures == (f"perplexity 10 against {against}: its report is on other rows or other metrics",)


HERE = {"torch": "2.13.0", "dtype": "float32", "device": "cpu AVX512"}


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ({**HERE, "torch": "2.12.0"}, "torch 2.12.0 there, 2.13.0 here"),
        ({**HERE, "device": "NVIDIA H100"}, "device NVIDIA H100 there, cpu AVX512 here"),
        ({k: v for k, v in HERE.items() if k != "dtype"}, "dtype none there, float32 here"),
        ({}, "one of them does not say with which libraries"),
    ],
)
def test_reports_that_were_measured_differently_are_not_compared(there: dict[str, str], says: str) -> None:
    """An upgrade of torch moved a figure, and the gate took it for a worse, or a better, model."""
    found = verdict(NOT_WORSE, report(measured_with=HERE), champion=champion(99, measured_with=there))
    (failure,) = found.failures
    assert [figure.champion for figure in found.figures] == [None]
    assert says in failure and "llmops run --rebuild evaluation_report --reason WHY" in failure


def test_a_comparison_says_that_both_were_measured_alike() -> None:
    found = verdict(NOT_WORSE, report(measured_with=HERE), champion=champion(99, measured_with=HERE))
    assert found.passed and "the same libraries, dtype, device and engine" in found.text


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_champion_whose_figure_is_no_number_cannot_be_compared_with(value: float) -> None:
    assert not verdict(NOT_WORSE, report(), champion=champion(value)).passed


def test_a_missing_report_on_the_unquantized_checkpoint_fails() -> None:
    gate = Gate(metric="perplexity", of="served", no_worse_than="unquantized")
    assert verdict(gate, report()).failures == (
        "perplexity 10 against unquantized: the checkpoint's own report is missing",
    )


def test_without_a_champion_the_comparison_passes_and_says_so() -> None:
    found = verdict(NOT_WORSE, report())
    assert found.skipped == ("perplexity 10 against champion: skipped: there is no champion yet",)
    assert (found.passed, found.reasons, found.champion) == (True, (), None)
    assert found.text == found.skipped[0] and found.markdown() == f"- ➖ {found.text}"


def test_a_champion_without_a_readable_report_fails() -> None:
    found = verdict(NOT_WORSE, report(), champion=Champion(release="f" * 64, report=None))
    assert found.failures == (
        "perplexity 10 against champion: the champion ffffffffffff has no readable report on these rows",
    )
    assert found.champion == "f" * 64


def test_a_release_that_has_served_before_is_judged_by_absolute_gates_only() -> None:
    """Otherwise a change with good metrics that fails in production could not be reverted in an incident."""
    gates = [NOT_WORSE, Gate(metric="perplexity", at_most=20)]
    served = Judged(report=report(15), champion=champion(1), has_served=True)
    found = judge("it", gates, "checkpoint", served)
    assert found.passed and "skipped: this release has served production before" in found.skipped[0]
    assert found.reasons == ("perplexity 15, limit 20",)
    worse = served.model_copy(update={"report": report(21)})
    assert not judge("it", gates, "checkpoint", worse).passed


@pytest.mark.parametrize(
    ("value", "reference", "better", "margin", "passes"),
    [
        (11.0, 10.0, False, 1.0, True),
        (11.1, 10.0, False, 1.0, False),
        (9.0, 10.0, True, 1.0, True),
        (8.9, 10.0, True, 1.0, False),
        (10.2, 10.0, False, "2%", True),
        (10.3, 10.0, False, "2%", False),
        (9.8, 10.0, True, "2%", True),
        (9.7, 10.0, True, "2 %", False),
        (-10.2, -10.0, True, "2%", True),
        (-10.3, -10.0, True, "2%", False),
        (5.0, 10.0, False, 0.0, True),
        (99.0, 10.0, True, 0.0, True),
    ],
)
def test_a_margin_is_how_much_worse_is_still_fine(
    value: float, reference: float, better: bool, margin: float | str, passes: bool
) -> None:
    gate = Gate(metric="perplexity", no_worse_than="champion", margin=margin)
    assert verdict(gate, report(value, better), champion=champion(reference, better)).passed is passes


def test_a_verdict_that_an_older_version_stored_is_read_as_it_was_meant() -> None:
    older = (
        '{"subject":"it","report":"d","champion":null,"failures":["bleu 0.1"],"reasons":["perplexity 10 against '
        'champion: skipped: there is no champion yet"]}'
    )
    found = Verdict.model_validate_json(older)
    assert (found.passed, found.text, len(found.reasons), found.skipped) == (False, "bleu 0.1", 1, ())


def test_a_release_that_has_served_is_still_compared_with_its_own_checkpoint() -> None:
    """Only the comparison with the champion is omitted."""
    gate = Gate(metric="perplexity", of="served", no_worse_than="unquantized")
    found = verdict(gate, report(11), unquantized=report(10), champion=champion(1), has_served=True)
    assert found.failures == (f"perplexity 11, unquantized 10, margin 0{NO_ROWS}",) and found.skipped == ()


def test_a_baseline_is_compared_like_the_champion_and_one_that_is_unknown_fails() -> None:
    values = np.random.default_rng(5).random(50)
    rule = Gate(metric="perplexity", no_worse_than="baseline", baseline="abcdef1", margin=0.02)
    first = Champion(release="abcdef1" + "0" * 33, report=report(0.5, better=True), rows=scored(values))
    evidence = Judged(report=report(0.4, better=True), rows=scored(values - 0.1), baselines={"abcdef1": first})
    found = judge("it", [rule], "checkpoint", evidence)
    assert found.outcome == "failed" and "baseline abcdef1 0.5, margin 0.02" in found.text
    unknown = judge("it", [rule], "checkpoint", evidence.model_copy(update={"baselines": {}}))
    (failure,) = unknown.failures
    assert (
        failure == f"perplexity 0.4 against baseline abcdef1: {NO_BASELINE}" and "`baseline` in llmops.yaml" in failure
    )
    gone = first.model_copy(update={"report": None, "rows": None, "lost": "it was collected on 2026-01-02"})
    (lost,) = judge("it", [rule], "checkpoint", evidence.model_copy(update={"baselines": {"abcdef1": gone}})).failures
    assert "collected on 2026-01-02; compute it again with `llmops run --revision abcdef1`, or set the gate's" in lost


def counted(value: float, tokenizer: str) -> EvaluationReport:
    """Perplexity, counted in tokens, and bits per byte, in the same unit for all."""
    metrics = (
        Metric(name="perplexity", value=value, higher_is_better=False, per_token=True),
        Metric(name="bits_per_byte", value=value / 10, higher_is_better=False),
    )
    return measured(metrics=metrics, tokenizer=tokenizer)


def test_perplexities_of_different_tokenizers_are_never_compared() -> None:
    """A champion with short tokens has the lower perplexity of the same text; the gate failed, or passed, by that."""
    candidate, other = counted(5, "a" * 64), counted(10, "b" * 64).model_copy(update={"key": "f" * 64})
    serving = Champion(release="f" * 64, report=other)
    why = (
        "perplexity is counted in tokens, and the tokenizers differ (bbbbbbbbbbbb there, aaaaaaaaaaaa here); add "
        "bits_per_byte to evaluation.metrics and gate that instead"
    )
    found = verdict(NOT_WORSE, candidate, champion=serving)
    assert found.failures == (f"perplexity 5 against champion: {why}",)
    assert found.skipped == (f"not compared with the champion: {why}",), "the table beside the champion says so too"
    assert [(f.metric, f.champion) for f in found.figures] == [("perplexity", None), ("bits_per_byte", 1)]
    assert verdict(Gate(metric="bits_per_byte", no_worse_than="champion"), candidate, champion=serving).passed
    assert verdict(Gate(metric="perplexity", at_most=6), candidate, champion=serving).passed
    same = Champion(release="f" * 64, report=other.model_copy(update={"tokenizer": "a" * 64}))
    assert verdict(NOT_WORSE, candidate, champion=same).passed
    unknown = Champion(release="f" * 64, report=other.model_copy(update={"tokenizer": ""}))
    assert "differ (unknown there" in verdict(NOT_WORSE, candidate, champion=unknown).failures[0]
