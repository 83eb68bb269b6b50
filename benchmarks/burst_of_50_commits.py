"""burst_of_50_commits: how many runs start for 50 commits, pushed one by one as fast as Git can, under the real daemon.

One may have started with the first push; the other 49 are one change. The baseline is the number of commits.
"""

import time

import dagster as dg

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured
from benchmarks.place import Place
from benchmarks.watched import NAME, watched
from llmops_assets.delivery.run_tags import REVISION_TAG
from tests.support.waiting import wait_for

COMMITS, QUICK = 50, 5


def measure(place: Place) -> Measured:
    here = watched(place)
    burst, began = [], time.monotonic()
    for number in range(QUICK if place.quick else COMMITS):
        here.project.write("tests/test_nothing_is_broken.py", f"def test_{number}():\n    assert str({number})\n")
        burst.append(here.project.commit(f"Burst {number}"))
        here.project.push()
    pushed = time.monotonic() - began
    wait_for("the end of the last one", lambda: here.ended(burst[-1]))
    if active := [r for r in here.ledger.requests(NAME) if r.active]:
        raise Unmeasured(f"{active[-1].name} is still {active[-1].status}")
    runs = sum(len(here.instance.get_runs(filters=dg.RunsFilter(tags={REVISION_TAG: sha}))) for sha in burst)
    return Measured(float(runs), float(len(burst)), f"pushed within {pushed:.1f} s")


BENCHMARK = Benchmark(
    name="burst_of_50_commits",
    unit="runs",
    against="the number of commits",
    goals=(Goal("value", "at most", 2.0),),
    measure=measure,
)
