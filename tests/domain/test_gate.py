"""Gates fail on missing evidence, and report all reasons at once."""

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmops_assets.domain.evaluated_rows import EvaluatedRows
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.gate import judge
from llmops_assets.domain.gate_inputs import NO_BASELINE, Champion, Judged
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.preference import Preference
from llmops_assets.domain.records import Check, EvaluationReport, Metric
from llmops_assets.domain.verdict import Compared, Verdict, combined, judge_checks
from llmops_assets.programs.evaluation.metrics.base import RowMetric
from tests.support.records import measured

NO_ROWS = " (no interval: a report stored no rows: the value is judged)"
NOT_WORSE = Gate(metric="perplexity", no_worse_than="champion")


def report(value: float = 10.0, better: bool = False, **change: Any) -> EvaluationReport:
    return measured(metrics=(Metric(name="perplexity", value=value, higher_is_better=better),), **change)


def verdict(gate: Gate, candidate: EvaluationReport | None, **evidence: Any) -> Verdict:
    return judge("the model of abc", [gate], gate.of, Judged(report=candidate, **evidence))


def champion(value: float = 10.0, better: bool = False, **change: Any) -> Champion:
    return Champion(release="f" * 64, report=report(value, better, **change))


@pytest.mark.parametrize(
    ("rule", "value", "passes"),
    [
        ({"at_most": 40}, 40.0, True),
        ({"at_most": 40}, 40.1, False),
        ({"at_least": 5}, 5.0, True),
        ({"at_least": 5}, 4.9, False),
        ({"at_least": 5, "at_most": 40}, 41.0, False),
        ({"at_least": 5, "at_most": 40}, 4.0, False),
    ],
)
def test_a_bound_itself_still_passes(rule: dict[str, Any], value: float, passes: bool) -> None:
    assert verdict(Gate(metric="perplexity", **rule), report(value)).passed is passes


def test_a_value_that_is_no_evidence_fails_its_gate_with_the_reason() -> None:
    candidate = report(refused={"quality": "its agreement with the labels is kappa 0.10, below min_agreement 0.4"})
    found = verdict(Gate(metric="quality", at_least=0.5), candidate)
    assert not found.passed and "quality has no value that is evidence: its agreement with" in found.failures[0]


def test_all_failures_are_reported_not_only_the_first() -> None:
    gates = [
        Gate(metric="perplexity", at_most=1, at_least=20),
        Gate(metric="bleu", at_least=0.1),
        Gate(metric="perplexity", no_worse_than="champion"),
        Gate(metric="perplexity", at_most=100),
    ]
    found = judge("it", gates, "checkpoint", Judged(report=report(10), champion=champion(5)))
    assert found.failures == (
        "perplexity 10, minimum 20",
        "perplexity 10, limit 1",
        "bleu was not measured (measured: perplexity)",
        f"perplexity 10, champion 5, margin 0{NO_ROWS}",
    )
    assert found.reasons == ("perplexity 10, limit 100",)
    assert found.markdown().count("❌") == 4 and found.markdown().count("✅") == 1


def test_a_gate_speaks_of_the_checkpoint_or_of_the_served_model_and_of_that_alone() -> None:
    gates = [Gate(metric="perplexity", at_most=1), Gate(metric="perplexity", of="served", at_most=100)]
    assert not judge("it", gates, "checkpoint", Judged(report=report(10))).passed
    assert judge("it", gates, "served", Judged(report=report(10))).passed


# -- missing and unreadable evidence --------------------------------------------------------------------------------


def test_no_report_fails_even_without_gates() -> None:
    found = judge("the model of abc", [], "checkpoint", Judged(report=None))
    assert found.failures == ("no report on the model of abc",) and found.report is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", [{"at_most": 40}, {"at_least": 5}, {"no_worse_than": "champion"}])
def test_a_figure_that_is_not_a_number_fails_any_bound(rule: dict[str, Any], value: float) -> None:
    """`nan <= 40` is false, but `-inf <= 40` is true: a diverged training must not pass by an infinite metric."""
    assert not verdict(Gate(metric="perplexity", **rule), report(value), champion=champion()).passed


def test_a_metric_that_was_not_measured_fails() -> None:
    found = verdict(Gate(metric="rougeL", at_least=0), report())
    assert found.failures == ("rougeL was not measured (measured: perplexity)",)


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


# -- the champion ---------------------------------------------------------------------------------------------------


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


# -- configuration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "text"),
    [
        ({}, "needs at_least, at_most or no_worse_than"),
        ({"no_worse_than": "unquantized"}, "needs `of: served`"),
        ({"at_most": 1, "margin": "two"}, "neither a number nor a percentage"),
        ({"at_most": 1, "margin": "-2%"}, "must be finite and not negative"),
        ({"at_most": 1, "margin": -2}, "must not be negative"),
        ({"at_most": 1, "margin": "nan%"}, "must be finite and not negative"),
        ({"at_most": 1, "margin": "inf"}, "must be finite and not negative"),
        ({"at_most": math.nan}, "finite"),
        ({"at_most": math.inf}, "finite"),
        ({"at_most": 1, "at_lest": 2}, "Extra inputs"),
    ],
)
def test_a_gate_that_could_never_refuse_or_never_pass_is_refused_itself(gate: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Gate(metric="perplexity", **gate)


def test_a_gate_says_itself_in_plain_text() -> None:
    gate = Gate(metric="bleu", of="served", at_least=0.1, no_worse_than="unquantized", margin="2%")
    assert str(gate) == "bleu of served: at least 0.1 and no worse than unquantized (margin 2%)"


# -- properties -----------------------------------------------------------------------------------------------------

numbers = st.floats(-1e6, 1e6)
any_number = st.floats()
margins = st.floats(0, 100) | st.integers(0, 100).map(lambda n: f"{n}%")


@given(any_number, any_number, st.booleans(), st.booleans(), margins, numbers, st.booleans(), st.booleans())
def test_a_verdict_passes_exactly_if_it_has_no_failure_and_every_gate_leaves_a_trace(
    value: float,
    reference: float,
    better: bool,
    with_champion: bool,
    margin: Any,
    bound: float,
    served: bool,
    has: bool,
) -> None:
    gates = [
        Gate(metric="perplexity", at_most=bound),
        Gate(metric="perplexity", no_worse_than="champion", margin=margin),
        Gate(metric="bleu", at_least=bound),
    ]
    evidence = Judged(
        report=report(value, better) if has else None,
        champion=champion(reference, better) if with_champion else None,
        has_served=served,
    )
    found = judge("it", gates, "checkpoint", evidence)
    assert found.passed == (not found.failures)
    assert not found.passed, "bleu was not measured"
    assert len(found.failures) + len(found.reasons) + len(found.skipped) == (3 if has else 1)


@given(numbers, st.floats(0, 1e6), numbers, st.booleans(), margins, numbers)
def test_a_better_metric_never_turns_a_pass_into_a_failure(
    value: float, gain: float, reference: float, better: bool, margin: Any, bound: float
) -> None:
    """For bounds in the metric's own direction, as intended."""
    gates = [
        Gate(metric="perplexity", **({"at_least": bound} if better else {"at_most": bound})),
        Gate(metric="perplexity", no_worse_than="champion", margin=margin),
    ]

    def passes(measured_value: float) -> bool:
        evidence = Judged(report=report(measured_value, better), champion=champion(reference, better))
        return judge("it", gates, "checkpoint", evidence).passed

    if passes(value):
        assert passes(value + gain if better else value - gain)


@given(numbers, st.booleans(), margins)
def test_a_candidate_as_good_as_the_champion_passes_with_any_margin(value: float, better: bool, margin: Any) -> None:
    gate = Gate(metric="perplexity", no_worse_than="champion", margin=margin)
    assert verdict(gate, report(value, better), champion=champion(value, better)).passed


# -- checks ---------------------------------------------------------------------------------------------------------


def test_checks_fail_on_errors_pass_on_warnings_and_fail_when_there_are_none() -> None:
    bad = Check(name="leakage", passed=False, summary="3 test inputs occur in train")
    warned = Check(name="duplicates", passed=False, summary="2 rows", severity="warn")
    good = Check(name="schema", passed=True, summary="18 rows")
    found = judge_checks("the data", "key", [bad, warned, good])
    assert found.failures == ("leakage: 3 test inputs occur in train",)
    assert found.reasons == ("duplicates: 2 rows", "schema: 18 rows")
    assert judge_checks("the data", "key", [warned, good]).passed
    for nothing in (None, ()):
        assert judge_checks("the data", None, nothing).failures == ("no report on the data",)


def test_a_verdict_has_the_figures_that_it_compared_with() -> None:
    """They were rendered into the stored report instead, and named a former champion once the report was reused."""
    found = verdict(NOT_WORSE, report(9.0, key="own"), champion=champion(10.0, key="champion's"))
    assert found.figures == (Compared(metric="perplexity", value=9.0, higher_is_better=False, champion=10.0),)
    on_other_rows = verdict(NOT_WORSE, report(9.0, key="own"), champion=champion(10.0, key="other", test_digest="x"))
    assert on_other_rows.figures[0].champion is None
    itself = verdict(NOT_WORSE, report(9.0, key="own"), champion=champion(9.0, key="own"))
    assert itself.figures[0].champion is None, "a champion is not compared with itself"


def test_a_figure_that_json_cannot_hold_is_left_out_of_a_verdict() -> None:
    found = verdict(Gate(metric="perplexity", at_most=40), report(math.inf))
    assert found.figures[0].value is None and Verdict.model_validate_json(found.model_dump_json()) == found


def test_the_combined_verdict_has_all_reasons_once_each_named_where_several_have_one() -> None:
    one = Verdict(subject="a", report="a", champion="c", failures=("too bad",), reasons=("fast",))
    two = Verdict(subject="b", report="b", champion="c", failures=("too bad", "too slow"))
    both = combined("all", "key", {"evaluation_report": one, "registered_model": two})
    assert both.failures == ("evaluation_report: too bad", "registered_model: too slow")
    assert (both.reasons, both.champion, both.report, both.passed) == (("fast",), "c", "key", False)
    assert combined("all", "key", {"evaluation_report": one}).failures == ("too bad",)


def test_what_a_policy_loosened_is_shown_beside_a_verdict_that_passes() -> None:
    verdict = Verdict(subject="policy", report=None, champion="c", loosened=("gate removed: rougeL",))
    assert verdict.passed and "loosened since the champion: gate removed: rougeL" in verdict.text
    assert "loosened since the champion: gate removed: rougeL" in verdict.markdown()
    assert [text.startswith("loosened since the champion: gate removed: rougeL") for text in verdict.warnings] == [True]


# -- rows: intervals, undecided, baselines, slices -------------------------------------------------------------------


def scored(values: Any, columns: tuple[dict[str, Any], ...] = ()) -> EvaluatedRows:
    """Rows of a mean under the name perplexity, which these tests measure."""
    statistics = np.stack([np.asarray(values, dtype=float), np.ones(len(values))], axis=1)
    digests = tuple(map(str, range(len(values))))
    return EvaluatedRows(digests, {"perplexity": statistics}, {"perplexity": RowMetric.value}, columns)


def compared(mine: Any, other: Any, **gate: Any) -> Verdict:
    rule = Gate(metric="perplexity", no_worse_than="champion", **gate)
    evidence = Judged(
        report=report(float(np.mean(mine)), better=True), rows=scored(mine),
        champion=Champion(release="f" * 64, report=report(float(np.mean(other)), better=True), rows=scored(other)),
    )  # fmt: skip
    return judge("it", [rule], "checkpoint", evidence)


def test_a_comparison_that_the_rows_do_not_decide_releases_nothing_and_says_how_many_rows_would() -> None:
    """A point estimate of ten noisy rows passed or failed by chance."""
    noise = np.random.default_rng(2).normal(0, 0.3, 10)
    other = np.full(10, 0.5)
    found = compared(other + noise - noise.mean(), other, margin=0.1)
    assert (found.outcome, found.passed, found.failures) == ("undecided", False, ())
    assert re.search(r"undecided: about \d+ rows would decide", found.text) and "(95%, 10 rows)" in found.text
    assert "❔" in found.markdown() and Verdict.model_validate_json(found.model_dump_json()) == found
    both = combined("all", "key", {"evaluation_report": found})
    assert (both.outcome, both.undecided) == ("undecided", found.undecided)


def test_a_comparison_passes_or_fails_on_its_interval() -> None:
    chance = np.random.default_rng(3)
    other = chance.random(100)
    change = chance.normal(0, 0.05, 100)
    assert compared(other + change, other, margin=0.03).outcome == "passed"
    assert compared(other + change - 0.06, other, margin=0.03).outcome == "failed"
    at_margin = other + change - change.mean() - 0.03
    assert compared(at_margin, other, margin=0.03).outcome == "undecided", "the point estimate is exactly at the margin"
    assert "smallest visible" in compared(other + change, other, margin=0.03).reasons[0]


def test_a_bound_is_judged_on_the_value_unless_the_gate_states_a_confidence() -> None:
    values = np.random.default_rng(4).random(12)
    evidence = Judged(report=report(float(values.mean()), better=True), rows=scored(values))
    bound = float(values.mean()) - 0.001
    for gate, outcome in ((Gate(metric="perplexity", at_least=bound), "passed"),
                          (Gate(metric="perplexity", at_least=bound, confidence="95%"), "undecided"),
                          (Gate(metric="perplexity", at_least=0.01, confidence="95%"), "passed")):  # fmt: skip
        assert judge("it", [gate], "checkpoint", evidence).outcome == outcome
    corpus = evidence.model_copy(update={"rows": EvaluatedRows(("0",), {}, {})})
    found = judge("it", [Gate(metric="perplexity", at_least=bound, confidence="95%")], "checkpoint", corpus)
    assert found.passed and "no interval: the metric gives one value for all rows: the value is judged" in found.text


@pytest.mark.parametrize(("right", "outcome"), [(5, "undecided"), (28, "undecided"), (29, "passed"), (60, "passed")])
def test_a_rate_that_no_row_contradicts_is_no_certainty(right: int, outcome: str) -> None:
    """5 right of 5 passed any bound: resampling rows that are all alike has no spread.

    Exact (Clopper-Pearson): n right of n show a rate of 0.05^(1/n) with 95% confidence: 0.8986 for 28, 0.9019 for 29.
    """
    evidence = Judged(report=report(1.0, better=True), rows=scored(np.ones(right)))
    gate = Gate(metric="perplexity", at_least=0.9, confidence="95%")
    assert judge("it", [gate], "checkpoint", evidence).outcome == outcome


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


def test_a_gate_per_column_judges_each_slice_and_refuses_small_ones() -> None:
    """A model that is good on average can have lost one language."""
    languages = ["en"] * 60 + ["el"] * 30 + ["mt"] * 5
    columns = tuple({"language": name} for name in languages)
    values = np.where(np.array(languages) == "el", 0.2, 0.9)
    evidence = Judged(report=report(float(values.mean()), better=True), rows=scored(values, columns))
    found = judge("it", [Gate(metric="perplexity", per="language", at_least=0.5)], "checkpoint", evidence)
    assert found.failures == ("perplexity where language is el 0.2, minimum 0.5",)
    assert found.reasons == ("perplexity where language is en 0.9, minimum 0.5",)
    assert found.skipped == ("perplexity per language: not judged, fewer than 20 rows: mt (5 rows)",)
    missing = judge("it", [Gate(metric="perplexity", per="lang", at_least=0.5)], "checkpoint", evidence)
    assert missing.failures == ("perplexity per lang: no test row has the column lang",)
    few = evidence.model_copy(update={"rows": scored(values[90:], columns[90:])})
    assert (
        judge("it", [Gate(metric="perplexity", per="language", at_least=0.5)], "checkpoint", few).outcome == "undecided"
    )
    other = Champion(release="f" * 64, report=report(0.9, better=True), rows=scored(np.full(95, 0.9), columns))
    rule = Gate(metric="perplexity", per="language", no_worse_than="champion", margin=0.1)
    against = judge("it", [rule], "checkpoint", evidence.model_copy(update={"champion": other}))
    assert len(against.failures) == 1 and "where language is el 0.2, champion 0.9" in against.failures[0]


# -- tokenizers -----------------------------------------------------------------------------------------------------


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


# -- a judge's preference ---------------------------------------------------------------------------------------------

PREFERRED = Gate(metric="preferred", at_least=0.45, confidence="95%")


def preferred(found: Preference | None, gate: Gate = PREFERRED, **change: Any) -> Verdict:
    other = report(1.0).model_copy(update={"key": "e" * 64})
    beside: dict[str, Any] = {"champion": Champion(release="f" * 64, report=other), **change}
    return judge("it", [gate], "checkpoint", Judged(report=report(1.0), preferences={"preferred": found}, **beside))


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ((70, 10, 20), "passed"),
        ((20, 10, 70), "failed"),
        ((11, 2, 9), "undecided"),
        ((0, 60, 0), "passed"),
        ((0, 2, 0), "undecided"),
    ],
)
def test_a_judges_preference_is_decided_by_its_interval(counts: tuple[int, int, int], outcome: str) -> None:
    won, tied, lost = counts
    found = preferred(Preference(won=won, tied=tied, lost=lost, unreadable=1))
    assert found.outcome == outcome
    said = f"{won} rows won, {tied} tied, {lost} lost, 1 without a verdict against the champion ffffffffffff"
    assert said in found.text and f"preferred {figure((won + tied / 2) / sum(counts))}, minimum 0.45" in found.text


@pytest.mark.parametrize(
    ("found", "change", "outcome", "told"),
    [
        (None, {}, "failed", "its judge has not compared this report with it; `llmops run --rebuild evaluation_report"),
        (None, {"champion": None}, "passed", "skipped: there is no champion yet"),
        (None, {"has_served": True}, "passed", "skipped: this release has served production before"),
        (None, {"champion": Champion(release="f" * 64, report=None, lost="collected")}, "failed", ": collected"),
        (None, {"champion": Champion(release="f" * 64, report=report(1.0))}, "passed", "skipped: both have the same"),
        (Preference(won=9, tied=0, lost=0, refused="kappa 0.1, below"), {}, "failed", "champion: kappa 0.1, below"),
        (Preference(won=0, tied=0, lost=0, unreadable=9), {}, "failed", "no row has a verdict"),
    ],
)
def test_a_preference_without_evidence_fails_and_without_a_champion_does_not_apply(
    found: Preference | None, change: dict[str, Any], outcome: str, told: str
) -> None:
    said = preferred(found, **change)
    assert said.outcome == outcome and told in said.text
