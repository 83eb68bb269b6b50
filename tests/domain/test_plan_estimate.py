"""What a plan takes and costs: from comparable runs, with their range, and never guessed."""

from llmops_assets.domain.plan_estimate import PastRun, Span, estimate_plan, estimate_stage


def runs(*seconds: float, hardware: str = "cpu-2", size: float | None = None) -> list[PastRun]:
    return [PastRun(seconds=s, hardware=hardware, size=size) for s in seconds]


def test_without_an_earlier_run_nothing_is_guessed() -> None:
    found = estimate_stage("ci_report", True, [])
    assert (found.seconds, found.cost, found.note) == (None, None, "no history yet")
    plan = estimate_plan([found], ["ci_report"], "USD")
    assert plan.text.startswith("no history yet") and plan.highest_cost is None


def test_the_median_stands_with_the_range_of_the_last_ten_runs() -> None:
    found = estimate_stage("ci_report", True, runs(10, 30, 20, *[20] * 7, 9000), prices={"cpu-2": 3600.0})
    assert found.seconds == Span(low=10, median=20, high=30) and found.runs == 10
    assert found.cost == found.seconds, "one per second"


def test_a_training_grows_with_its_steps_and_not_with_what_is_around_them() -> None:
    past = [PastRun(seconds=70, size=10, growing=50)]
    assert estimate_stage("fine_tuned_checkpoint", True, past, size=100, what="steps").seconds == Span(
        low=520, median=520, high=520
    )


def test_if_it_is_not_known_how_much_grows_the_range_says_so() -> None:
    found = estimate_stage("evaluation_report", True, runs(10, size=100), size=300, what="rows")
    assert found.seconds == Span(low=10, median=30, high=30) and found.note == "scaled to 300 rows"
    assert estimate_stage("evaluation_report", True, runs(10), size=300).seconds == Span(low=10, median=10, high=10)


def test_the_champion_that_is_measured_too_counts_twice() -> None:
    found = estimate_stage("evaluation_report", True, runs(10), times=2)
    assert found.seconds is not None and found.seconds.median == 20 and "champion" in found.note


def test_the_low_end_of_a_plan_has_only_what_runs_for_sure() -> None:
    sure = estimate_stage("ci_report", True, runs(1, 3), prices={"cpu-2": 3600.0})
    maybe = estimate_stage("quantized_artifact", False, runs(5, 7), prices={"cpu-2": 3600.0})
    plan = estimate_plan([sure, maybe], ["ci_report", "quantized_artifact"], "EUR")
    assert plan.seconds == Span(low=1, median=8, high=10)
    assert plan.highest_cost == 10 and "about 8 EUR (1 to 10)" in plan.text


def test_hardware_without_a_price_makes_the_cost_unknown_and_is_named() -> None:
    found = estimate_stage("ci_report", True, [*runs(1), *runs(1, hardware="h200")], prices={"cpu-2": 1.0})
    assert found.cost is None and found.note == "no price for h200"
    plan = estimate_plan([found], ["ci_report"], "USD")
    assert plan.highest_cost is None and "without the cost of ci_report" in plan.text


def test_what_moves_traffic_costs_nothing_and_takes_its_time() -> None:
    plan = estimate_plan([estimate_stage("production_endpoint", True, runs(60))], ["ci_report"], "USD")
    assert (plan.highest_cost, plan.unpriced) == (0.0, ())


def test_without_prices_there_are_seconds_only() -> None:
    plan = estimate_plan([estimate_stage("ci_report", True, runs(60))], ["ci_report"], None)
    assert plan.cost is None and plan.text == "about 60 s" and plan.highest_cost is None
