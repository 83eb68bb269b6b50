"""webhook_to_run_p95: the 95th percentile of the pushes of webhook_to_run."""

from benchmarks.harness import Benchmark, Goal, Measured
from benchmarks.place import Place
from benchmarks.webhook_to_run import starts
from llmops_assets.domain.percentiles import percentile


def measure(place: Place) -> Measured:
    found = starts(place)
    return Measured(percentile(found.seconds, 0.95), found.worker_s, found.told)


BENCHMARK = Benchmark(
    name="webhook_to_run_p95",
    unit="s",
    against="a fresh interpreter that loads the location",
    goals=(Goal("value", "at most", 5.0),),
    measure=measure,
)
