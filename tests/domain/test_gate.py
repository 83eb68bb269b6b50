"""Gates over the value of a report. Pure: no process, no file."""

import math
from typing import Any

import pytest

from llmops_assets.domain.gate import judge
from llmops_assets.domain.gate_inputs import Judged
from llmops_assets.domain.gate_rule import Gate
from tests.domain.gates import NO_ROWS, champion, report, verdict


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
