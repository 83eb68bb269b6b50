"""The benchmark harness: it reports only measured figures, and the results file has one schema."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks.__main__ import NAMES, load
from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, interleaved, run_all, write_results
from benchmarks.place import Place

REPOSITORY = Path(__file__).parents[2]
AT_MOST = Goal("ratio", "at most", 1.5)


def yielding(name: str, value: float, baseline: float, *goals: Goal) -> Benchmark:
    return Benchmark(name, "s", "something", goals or (AT_MOST,), lambda place: Measured(value, baseline))


def failing(name: str, error: Exception) -> Benchmark:
    def fail(place: Place) -> NoReturn:
        raise error

    return Benchmark(name, "s", "something", (AT_MOST,), fail)


def test_a_figure_is_shown_with_its_baseline_ratio_and_goal(tmp_path: Path) -> None:
    said: list[str] = []
    with Place(parent=tmp_path) as place:
        figures, failed = run_all([yielding("fast", 3.0, 2.0), yielding("slow", 4.0, 2.0)], place, said.append)
    assert failed == []
    assert "ratio 1.500  goal: ratio at most 1.5  met" in said[0]
    assert "ratio 2.000  goal: ratio at most 1.5  missed" in said[1]
    write_results(figures, tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == [
        {"name": "fast", "value": 3.0, "unit": "s", "baseline": 2.0, "ratio": 1.5},
        {"name": "slow", "value": 4.0, "unit": "s", "baseline": 2.0, "ratio": 2.0},
    ]


@pytest.mark.parametrize(
    "none",
    [yielding("none", 3.0, 0.0), yielding("none", 0.0, 2.0), yielding("none", 3.0, float("nan")),
     yielding("none", float("inf"), 2.0), failing("none", Unmeasured("no room")), failing("none", OSError("gone"))],
)  # fmt: skip
def test_a_missing_measurement_is_not_a_figure(none: Benchmark, tmp_path: Path) -> None:
    """A zero baseline gives an infinite ratio, and a crashed benchmark has no value; neither is a result."""
    said: list[str] = []
    with Place(parent=tmp_path) as place:
        figures, failed = run_all([none, yielding("fast", 3.0, 2.0)], place, said.append)
    assert [f.benchmark.name for f in figures] == ["fast"], "one that fails does not take the others along"
    assert failed == ["none"] and "not measured" in said[0] and "ratio" not in said[0]
    write_results(figures, tmp_path / "results.json")
    assert [r["name"] for r in json.loads((tmp_path / "results.json").read_text())] == ["fast"]


def test_a_goal_may_bound_the_value_the_ratio_or_both() -> None:
    both = yielding("x", 1.4, 1.0, Goal("value", "at most", 1.0), AT_MOST)
    with Place() as place:
        figures, _ = run_all([both, yielding("y", 0.9, 1.0, Goal("ratio", "at least", 0.95))], place, lambda text: None)
    assert [[g.of for g in f.missed] for f in figures] == [["value"], ["ratio"]]


def test_value_and_baseline_are_taken_in_turn() -> None:
    """Otherwise load that begins between the two measurements makes one side look slow."""
    order: list[str] = []

    def taken(side: str, seconds: list[float]) -> float:
        order.append(side)
        return seconds.pop()

    ours, bare = [9.0, 1.0, 2.0], [4.0, 4.0, 4.0]
    found = interleaved(lambda: taken("ours", ours), lambda: taken("bare", bare), 3)
    assert order == ["ours", "bare"] * 3 and found == Measured(2.0, 4.0)


def test_a_place_vanishes_with_all_that_was_begun_in_it() -> None:
    ended: list[str] = []
    with pytest.raises(KeyboardInterrupt), Place() as place:
        folder = place.folder("x")
        place.at_end(lambda: ended.append("endpoint"))
        place.at_end(lambda: ended.append("daemon"))
        raise KeyboardInterrupt
    assert ended == ["daemon", "endpoint"] and not folder.exists()


def test_every_benchmark_has_a_module_a_goal_and_a_baseline_in_plain_text() -> None:
    for name in NAMES:
        found = load(name)
        assert found.goals and found.against and found.unit, name


def test_the_command_measures_what_is_named_and_nothing_else(tmp_path: Path) -> None:
    done = _command("store_write", "--quick", "--output", str(tmp_path / "results.json"))
    assert done.returncode == 0, done.stderr
    (found,) = json.loads((tmp_path / "results.json").read_text())
    assert set(found) == {"name", "value", "unit", "baseline", "ratio"}
    assert (found["name"], found["unit"]) == ("store_write", "s")
    assert found["ratio"] == pytest.approx(found["value"] / found["baseline"])
    assert "quick: no figures to report" in done.stdout


def test_a_benchmark_that_cannot_run_makes_the_exit_code_1(tmp_path: Path) -> None:
    """Without Git on the path, the benchmark cannot make the project that it plans."""
    done = _command("noop_plan", "--quick", "--output", str(tmp_path / "results.json"), PATH=str(tmp_path))
    assert done.returncode == 1
    assert "noop_plan" in done.stdout and "not measured" in done.stdout
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_an_unknown_name_is_bad_use_and_names_those_that_exist() -> None:
    done = _command("noop_plam")
    assert done.returncode == 2 and "noop_plan" in done.stderr


def _command(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=REPOSITORY, env={**os.environ, **environment},
        capture_output=True, text=True,
    )  # fmt: skip
