"""location_load_100: how much longer than `import dagster` it takes to load the code location with 100 projects."""

from benchmarks.harness import Benchmark, Goal, Measured
from benchmarks.location_load import measure_with
from benchmarks.place import Place


def measure(place: Place) -> Measured:
    loaded = measure_with(place, 5 if place.quick else 100)
    return Measured(loaded.value - loaded.baseline, loaded.baseline)


BENCHMARK = Benchmark(
    name="location_load_100",
    unit="s more",
    against="import dagster in a fresh interpreter",
    goals=(Goal("value", "at most", 3.0),),
    measure=measure,
)
