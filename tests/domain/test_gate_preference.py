"""Gates on a judge's preference between two models."""

from typing import Any

import pytest

from llmops_assets.domain.formatting import figure
from llmops_assets.domain.gate import judge
from llmops_assets.domain.gate_inputs import Champion, Judged
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.preference import Preference
from llmops_assets.domain.verdict import Verdict
from tests.domain.gates import report

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
