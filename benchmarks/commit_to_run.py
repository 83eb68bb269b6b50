"""commit_to_run: from just before a commit is pushed until Dagster says that its run has started, median of ten.

Dagster's daemon looks at sensors every 5 s. A push that follows the end of the run before it would meet that loop at
one and the same point each time, so the pushes are spread evenly over it, as people's are.

The baseline is what no run is spared: its worker, a fresh interpreter that loads the location.
"""

import statistics
import sys
import time

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, command, seconds_of
from benchmarks.location_load import LOAD
from benchmarks.place import Place
from benchmarks.watched import Delivered, Timed, watched
from resources.run_launching.run_workers import STARTED_TAG

LOOP_S = 5.0


def measure(place: Place) -> Measured:
    here = watched(place)
    delivered: list[Delivered] = []
    workers: list[float] = []
    pushes = 2 if place.quick else 10
    for number in range(pushes):
        # ci_report alone reads it, so that each run is over soon; how it is started is the same for every run.
        here.project.write("tests/test_nothing_is_broken.py", f"def test_{number}():\n    assert str({number})\n")
        here.project.commit(f"Test {number}")
        time.sleep(number * LOOP_S / pushes)
        delivered.append(here.deliver())
        workers.append(seconds_of(lambda: command([sys.executable, "-c", LOAD], here.env)))
    started = [d.run.start_time - d.pushed for d in delivered if d.run.start_time is not None]
    if len(started) < len(delivered):
        raise Unmeasured(f"{len(delivered) - len(started)} runs have no start")
    parts = {
        "until a sensor asked for it": [d.run.create_timestamp.timestamp() - d.pushed for d in delivered],
        "until its worker was started": [_worker(here, d) - d.run.create_timestamp.timestamp() for d in delivered],
        "the worker itself": [(d.run.start_time or 0.0) - _worker(here, d) for d in delivered],
    }
    told = ", ".join(f"{part} {statistics.median(seconds):.1f} s" for part, seconds in parts.items())
    spread = ", ".join(f"{s:.1f}" for s in sorted(started))
    return Measured(statistics.median(started), statistics.median(workers), f"{told}; all: {spread} s")


def _worker(here: Timed, delivered: Delivered) -> float:
    """When the run's worker was started: seconds since the epoch."""
    return float(delivered.run.dagster_run.tags[STARTED_TAG])


BENCHMARK = Benchmark(
    name="commit_to_run",
    unit="s",
    against="a fresh interpreter that loads the location, as each run's worker does",
    goals=(Goal("value", "at most", 5.0),),
    measure=measure,
)
