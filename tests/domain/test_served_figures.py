"""Gates on size and speed of the served model: judged on the load test, and compared on the same hardware only."""

import pytest

from llmops_assets.domain.gate import judge
from llmops_assets.domain.gate_inputs import Champion, Judged
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.records import LoadFigures, Measured
from llmops_assets.domain.served_figures import MEASURE_AGAIN, Served
from llmops_assets.domain.verdict import Verdict
from tests.support.records import measured


def load(clients: int, scale: float = 1.0, broken: int = 0) -> LoadFigures:
    return LoadFigures(
        clients=clients, tokens_per_s=100 / scale, first_token_p50_s=0.25 * scale, latency_p50_s=1.0 * scale,
        latency_p95_s=2.0 * scale, broken=broken, memory_bytes=int(300e6 * scale),
    )  # fmt: skip


def served(scale: float = 1.0, broken: int = 0, mb: float = 150.0) -> Served:
    """With one client everything is ten times as fast: what a gate must not judge."""
    levels = (load(1, scale / 10), load(8, scale, broken))
    return Served(size_bytes=int(mb * 1e6), hardware="cpu-2", load=levels)


def verdict(gate: dict[str, object], own: Served | None, **evidence: object) -> Verdict:
    report: Measured = measured()
    asked = Gate.model_validate({"of": "served", **gate})
    return judge("it", (asked,), "served", Judged(report=report, served=own, **evidence))


def champion(other: Served | None) -> Champion:
    return Champion(release="c" * 64, report=measured(key="theirs"), served=other)


@pytest.mark.parametrize(
    ("metric", "holds", "fails", "said"),
    [
        ("size_mb", {"at_most": 151}, {"at_most": 149}, "size_mb 150 MB, limit 149"),
        ("tokens_per_s", {"at_least": 99}, {"at_least": 101},
         "tokens_per_s 100 tokens/s on cpu-2 with 8 clients, minimum 101"),
        ("first_token_p50", {"at_most": 0.3}, {"at_most": 0.2},
         "first_token_p50 0.25 s on cpu-2 with 8 clients, limit 0.2"),
        ("latency_p50", {"at_most": 1.1}, {"at_most": 0.9}, "latency_p50 1 s on cpu-2 with 8 clients, limit 0.9"),
        ("latency_p95", {"at_most": 2.1}, {"at_most": 1.9}, "latency_p95 2 s on cpu-2 with 8 clients, limit 1.9"),
        ("memory_mb", {"at_most": 301}, {"at_most": 299}, "memory_mb 300 MB on cpu-2 with 8 clients, limit 299"),
    ],
)  # fmt: skip
def test_a_bound_is_judged_under_the_load_of_most_clients(
    metric: str, holds: dict[str, float], fails: dict[str, float], said: str
) -> None:
    assert verdict({"metric": metric, **holds}, served()).outcome == "passed"
    assert verdict({"metric": metric, **fails}, served()).failures == (said,)


@pytest.mark.parametrize(("slower", "outcome"), [(1.0, "passed"), (1.09, "passed"), (1.2, "failed"), (0.5, "passed")])
@pytest.mark.parametrize("metric", ["tokens_per_s", "latency_p95", "first_token_p50", "memory_mb"])
def test_a_comparison_allows_the_margin_in_the_worse_direction_only(metric: str, slower: float, outcome: str) -> None:
    gate = {"metric": metric, "no_worse_than": "champion", "margin": "10%"}
    assert verdict(gate, served(slower), champion=champion(served())).outcome == outcome


def test_speeds_of_other_hardware_are_not_compared_and_the_remedy_is_named() -> None:
    elsewhere = served().model_copy(update={"load": ()})  # nothing was measured on the candidate's hardware
    found = verdict({"metric": "latency_p50", "no_worse_than": "champion"}, served(), champion=champion(elsewhere))
    (failure,) = found.failures
    assert "was not measured on this hardware" in failure and MEASURE_AGAIN in failure
    assert verdict({"metric": "size_mb", "no_worse_than": "champion"}, served(), champion=champion(elsewhere)).reasons


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (None, "there is no served report"),
        (served(broken=3), "3 answers of the load test with 8 clients broke off"),
        (Served(size_bytes=1), "its speed was not measured on this hardware"),
    ],
)
def test_what_was_not_measured_fails(own: Served | None, why: str) -> None:
    gates = ({"at_most": 9.0}, {"no_worse_than": "champion"})
    for gate in gates:
        found = verdict({"metric": "latency_p95", **gate}, own, champion=champion(served()))
        assert found.failures and all(why in failure for failure in found.failures)


def test_without_anything_to_compare_with_a_comparison_is_skipped() -> None:
    gate = {"metric": "latency_p95", "no_worse_than": "champion"}
    assert verdict(gate, served()).skipped == ("latency_p95 against champion: there is no champion yet",)
    back = verdict(gate, served(9.0), champion=champion(served()), has_served=True)
    assert back.skipped == ("latency_p95 against champion: this release has served production before",)


def test_a_missing_baseline_fails() -> None:
    gate = {"metric": "size_mb", "no_worse_than": "baseline", "baseline": "abcdef0"}
    assert "no release or commit" in verdict(gate, served()).failures[0]


def test_a_load_test_of_an_earlier_version_has_no_memory_and_says_how_to_measure_it() -> None:
    before = load(8).model_copy(update={"memory_bytes": None})
    own = Served(size_bytes=1, hardware="cpu-2", load=(before,))
    [said] = verdict({"metric": "memory_mb", "at_most": 500}, own).failures
    assert said == f"memory_mb has no value: it was not measured; {MEASURE_AGAIN}"
