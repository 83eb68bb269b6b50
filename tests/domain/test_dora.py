"""DORA's measures, against small histories worked out by hand; without evidence there is no figure."""

from hypothesis import example, given
from hypothesis import strategies as st

from llmops_assets.domain.dora import DAY_S, Dora, Served, measure

NOW = 100 * DAY_S
SINCE = 0.0


def served(release: str, day: float, *commits: float, rollback: bool = False) -> Served:
    return Served(release=release, at=day * DAY_S, rollback=rollback, commits=tuple(c * DAY_S for c in commits))


def of(*history: Served, returned: tuple[float, ...] = (), days: float = 30, since: float | None = SINCE) -> Dora:
    return measure(history, [day * DAY_S for day in returned], days * DAY_S, NOW, since)


def test_four_measures_of_a_plain_history() -> None:
    found = of(
        served("a", 71, 70), served("b", 80, 76, 79), served("c", 90, 88), served("b", 90.5, rollback=True),
        served("d", 95, 94), returned=(93, 60),
    )  # fmt: skip
    assert (found.deployments, found.deployments_per_week) == (4, 4 / 30 * 7)
    assert (found.lead_time_s, found.changes) == (1 * DAY_S, 5), "the median of 1, 4, 1, 2 and 1 days"
    assert (found.change_failure_rate, found.rolled_back, found.returned) == (2 / 5, 1, 1)
    assert (found.time_to_restore_s, found.incidents, found.complete) == (DAY_S / 2, 1, True)


def test_without_evidence_there_is_no_figure_not_a_nought() -> None:
    for found in (of(), of(since=None), of(served("a", 20, 19)), of(served("a", 20), served("b", 30, rollback=True))):
        assert found.lead_time_s is found.deployments_per_week is found.change_failure_rate is None
        assert found.time_to_restore_s is None
        assert [value for _, value, _ in found.rows()] == ["no data"] * 4
        assert found.as_json()["lead_time"] == {"median_seconds": None, "changes": 0}


def test_a_rollback_of_a_rollback_is_the_same_failure_and_ends_it_later() -> None:
    found = of(
        served("a", 75), served("b", 80), served("c", 90), served("b", 91, rollback=True),
        served("a", 94, rollback=True),
    )  # fmt: skip
    assert (found.deployments, found.rolled_back, found.incidents) == (3, 1, 1)
    assert found.time_to_restore_s == 4 * DAY_S
    again = of(served("a", 80), served("b", 90), served("a", 91, rollback=True), served("b", 93, rollback=True))
    assert (again.rolled_back, again.incidents, again.time_to_restore_s) == (1, 1, 3 * DAY_S)


def test_the_same_release_for_another_commit_is_no_deployment() -> None:
    found = of(served("a", 80, 79), served("a", 81, 80.5), served("b", 90, 89))
    assert (found.deployments, found.changes) == (2, 2)
    rolled = of(served("a", 80), served("b", 85), served("b", 86), served("a", 88, rollback=True))
    assert rolled.rolled_back == 1 and rolled.time_to_restore_s == 3 * DAY_S


def test_a_failure_counts_for_the_window_of_its_deployment_and_a_recovery_for_that_of_its_end() -> None:
    found = of(served("a", 60), served("b", 69), served("a", 71, rollback=True), served("c", 90))
    assert (found.deployments, found.rolled_back, found.change_failure_rate) == (1, 0, 0.0)
    assert (found.incidents, found.time_to_restore_s) == (1, 2 * DAY_S)


def test_times_that_are_out_of_order_are_left_out_and_counted() -> None:
    """A developer's clock that is ahead gave a negative lead time; ours that was set back, a negative recovery."""
    found = of(served("a", 80, 81, 79), served("b", 90), served("a", 89, rollback=True))
    assert (found.lead_time_s, found.changes, found.out_of_order) == (DAY_S, 1, 2)
    assert (found.time_to_restore_s, found.rolled_back) == (None, 1)


def test_a_window_that_is_longer_than_the_project_is_shortened_and_says_so() -> None:
    found = of(served("a", 98, 97), since=90 * DAY_S)
    assert (found.complete, found.start) == (False, 90 * DAY_S)
    assert found.deployments_per_week == 0.7
    young = of(served("a", 98, 97), since=97 * DAY_S)
    assert young.deployments_per_week is None, "three days say nothing about a week"
    assert young.rows()[1] == ("deployment frequency", "1", "1 deployment in 3 d")
    ahead = of(served("a", 98), since=200 * DAY_S)
    assert (ahead.start, ahead.deployments) == (NOW, 0), "the clock was set back"


@example(history=[("a", 1e-54, False, [0.0])], returned=[], days=100.0, since=None)  # 1e-46 ms
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 200), st.booleans(), st.lists(st.floats(0, 200)))),
    st.lists(st.floats(0, 200)),
    st.floats(0.01, 400),
    st.none() | st.floats(0, 200),
)
def test_whatever_the_history_there_is_an_answer(
    history: list[tuple[str, float, bool, list[float]]], returned: list[float], days: float, since: float | None
) -> None:
    rows = [served(r, at, *commits, rollback=rollback) for r, at, rollback, commits in history]
    found = of(*rows, returned=tuple(returned), days=days, since=None if since is None else since * DAY_S)
    assert found.rolled_back <= found.deployments
    assert all(value != "0" and "-" not in value and "nan" not in value for _, value, _ in found.rows())
