"""commit_to_run: from just before a commit is pushed until its run has started in Dagster, median of ten.

Dagster's daemon evaluates sensors every 5 s. A push right after the previous run's end would always hit the same point
of that loop, so the pushes are spread evenly over it, like real pushes.

The baseline is what a run's worker would need, were it not forked: a fresh interpreter that loads the location.
"""

import statistics
import sys
import time
from typing import NamedTuple

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, command, seconds_of
from benchmarks.location_load import LOAD
from benchmarks.place import Place
from benchmarks.watched import Delivered, Timed, watched
from resources.run_launching.run_workers import STARTED_TAG

LOOP_S = 5.0


def measure(place: Place) -> Measured:
    starts = starts_of(watched(place), 2 if place.quick else 10)
    return Measured(statistics.median(starts.seconds), starts.worker_s, starts.told)


class Starts(NamedTuple):
    """How long each of several pushes took until its run had started."""

    seconds: list[float]
    worker_s: float
    """Median time of a worker's fresh interpreter."""
    told: str


def starts_of(here: Timed, pushes: int) -> Starts:
    """Pushes commits one after another, spread over the daemon's loop, each after the end of the run before.

    Raises:
        Unmeasured: a run has no start time, or a push did not end well.
    """
    delivered: list[Delivered] = []
    workers: list[float] = []
    for number in range(pushes):
        # Only ci_report reads it, so that each run ends quickly; every run starts the same way.
        here.project.write("tests/test_nothing_is_broken.py", f"def test_{number}():\n    assert str({number})\n")
        here.project.commit(f"Test {number}")
        time.sleep(number * LOOP_S / pushes)
        delivered.append(here.deliver())
        workers.append(seconds_of(lambda: command([sys.executable, "-c", LOAD], here.env)))
    started = [d.run.start_time - d.pushed for d in delivered if d.run.start_time is not None]
    if len(started) < len(delivered):
        raise Unmeasured(f"{len(delivered) - len(started)} runs have no start time")
    parts = {
        "until a sensor requested it": [d.run.create_timestamp.timestamp() - d.pushed for d in delivered],
        "until its worker started": [_worker(here, d) - d.run.create_timestamp.timestamp() for d in delivered],
        "the worker itself": [(d.run.start_time or 0.0) - _worker(here, d) for d in delivered],
    }
    told = ", ".join(f"{part} {statistics.median(seconds):.1f} s" for part, seconds in parts.items())
    spread = ", ".join(f"{s:.1f}" for s in sorted(started))
    return Starts(started, statistics.median(workers), f"{told}; all: {spread} s")


def _worker(here: Timed, delivered: Delivered) -> float:
    """When the run's worker was started, in seconds since the epoch."""
    return float(delivered.run.dagster_run.tags[STARTED_TAG])


BENCHMARK = Benchmark(
    name="commit_to_run",
    unit="s",
    against="a fresh interpreter that loads the location",
    goals=(Goal("value", "at most", 5.0),),
    measure=measure,
)
