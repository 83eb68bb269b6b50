"""What holds for every gate and every value."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.domain.gate import judge
from llmops_assets.domain.gate_inputs import Judged
from llmops_assets.domain.gate_rule import Gate
from tests.domain.gates import champion, report, verdict

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
