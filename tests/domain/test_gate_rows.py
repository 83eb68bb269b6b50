"""Gates over rows: intervals, undecided results, slices."""

import re
from typing import Any

import numpy as np
import pytest

from llmops_assets.domain.evaluated_rows import EvaluatedRows
from llmops_assets.domain.gate import judge
from llmops_assets.domain.gate_inputs import Champion, Judged
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.verdict import Verdict, combined
from tests.domain.gates import report, scored


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
