"""python -m benchmarks [NAME ...] [--quick] [--output FILE]

Runs all benchmarks or the named ones, prints a line per figure and writes benchmarks/results.json: a list of
{name, value, unit, baseline, ratio}. Exit codes: 0, all were measured, whether or not their goals were met; 1, at least
one could not be measured; 2, bad usage.
"""

import argparse
import importlib
import os
import signal
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

from benchmarks.harness import Benchmark, run_all, write_results
from benchmarks.place import Place

# Quick ones first; the last four share a home with a real daemon.
NAMES = (
    "location_load",
    "location_load_100",
    "tick_100_projects",
    "sensors_of_100_projects",
    "noop_plan",
    "plan_history",
    "report_bytes",
    "store_write",
    "store_read_verified",
    "program_startup",
    "ci_report",
    "gateway_throughput",
    "train_tokens_per_s",
    "repeatable_evaluation",
    "evaluate_examples_per_s",
    "chain_overhead",
    "webhook_to_run",
    "webhook_to_run_p95",
    "commit_to_run",
    "burst_of_50_commits",
    "revert_to_production",
)
RESULTS = Path(__file__).parent / "results.json"


def load(name: str) -> Benchmark:
    """Imports and returns the benchmark of that name; imported on demand, because some are heavy."""
    found = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    assert isinstance(found, Benchmark) and found.name == name
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Runs the performance benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"benchmarks to run: {', '.join(NAMES)}; default: all")
    parser.add_argument(
        "--quick", action="store_true", help="small inputs: checks that they run; do not report the figures"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="results file")
    arguments = parser.parse_args()
    if unknown := [n for n in arguments.names if n not in NAMES]:
        parser.error(f"no such benchmark: {', '.join(unknown)} (known: {', '.join(NAMES)})")
    say = partial(print, file=sys.stdout, flush=True)
    say(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}{'; quick: no figures to report' * arguments.quick}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every interpreter recompiles the project
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that daemon and endpoints stop with it
    with redirect_stdout(sys.stderr), Place(arguments.quick) as place:  # keep the output of DVC and others off stdout
        wanted = [load(name) for name in NAMES if not arguments.names or name in arguments.names]
        figures, failed = run_all(wanted, place, say)
    write_results(figures, arguments.output)
    missed = [f.benchmark.name for f in figures if f.missed]
    say(f"{len(figures)} measured in {arguments.output}; missed: {', '.join(missed) or 'none'}")
    if failed:
        say(f"not measured: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
