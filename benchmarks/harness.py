"""What all benchmarks share: figures, goals, output and ways to measure. The benchmarks are in the other modules.

A figure exists only if it was measured: a benchmark that fails, or whose baseline is not a positive number, reports a
reason and no figure.
"""

import json
import math
import os
import statistics
import subprocess
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.place import Place


class Unmeasured(Exception):
    """The benchmark could not run, or did not measure what it claims to; the message says why."""


class Measured(NamedTuple):
    value: float
    baseline: float
    detail: str = ""
    """Where the time went; shown if a goal is missed."""


@dataclass(frozen=True)
class Goal:
    """A bound on a figure's value or on its ratio to the baseline."""

    of: Literal["value", "ratio"]
    sense: Literal["at most", "at least"]
    bound: float

    def met(self, seen: float) -> bool:
        return seen <= self.bound if self.sense == "at most" else seen >= self.bound

    def __str__(self) -> str:
        return f"{self.of} {self.sense} {self.bound:g}"


@dataclass(frozen=True)
class Benchmark:
    """How to measure one figure."""

    name: str
    unit: str
    against: str
    """The baseline, in words."""
    goals: tuple[Goal, ...]
    measure: Callable[[Place], Measured]


@dataclass(frozen=True)
class Figure:
    benchmark: Benchmark
    value: float
    baseline: float
    detail: str
    load: float
    """One-minute load average at the time of measurement: on a busy machine a goal may be missed for that reason."""

    @property
    def ratio(self) -> float:
        return self.value / self.baseline

    @property
    def missed(self) -> tuple[Goal, ...]:
        seen = {"value": self.value, "ratio": self.ratio}
        return tuple(g for g in self.benchmark.goals if not g.met(seen[g.of]))

    def line(self) -> str:
        b = self.benchmark
        goals = " and ".join(str(g) for g in b.goals)
        why = f"\n    {self.detail}" if self.missed and self.detail else ""
        return (
            f"{b.name:<22} {self.value:>10.4g} {b.unit:<9} baseline {self.baseline:.4g} ({b.against})  "
            f"ratio {self.ratio:.3f}  goal: {goals}  {'missed' if self.missed else 'met'}  [load {self.load:.1f}]{why}"
        )

    def record(self) -> dict[str, str | float]:
        b = self.benchmark
        return {"name": b.name, "value": self.value, "unit": b.unit, "baseline": self.baseline, "ratio": self.ratio}


def take(benchmark: Benchmark, place: Place) -> Figure:
    """Measures one benchmark.

    Raises:
        Unmeasured: the value or baseline is not a positive number.
    """
    value, baseline, detail = benchmark.measure(place)
    for what, seen in (("value", value), ("baseline", baseline)):
        if not (math.isfinite(seen) and seen > 0):
            raise Unmeasured(f"its {what} is {seen:g}, not a positive number")
    return Figure(benchmark, value, baseline, detail, os.getloadavg()[0])


def run_all(
    benchmarks: Iterable[Benchmark], place: Place, say: Callable[[str], None]
) -> tuple[list[Figure], list[str]]:
    """Figures, and the names of the benchmarks that failed. Prints a line as soon as each benchmark ends."""
    figures, failed = [], []
    for benchmark in benchmarks:
        try:
            figures.append(take(benchmark, place))
            say(figures[-1].line())
        except Exception as error:  # one failure must not stop the others; it is reported and counted
            failed.append(benchmark.name)
            if not isinstance(error, Unmeasured):
                traceback.print_exc()
            say(f"{benchmark.name:<22} not measured: {error or type(error).__name__}")
    return figures, failed


def write_results(figures: Sequence[Figure], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([f.record() for f in figures], indent=2) + "\n")


# -- ways to measure ------------------------------------------------------------------------------------------------


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(value: Callable[[], float], baseline: Callable[[], float], times: int) -> Measured:
    """Medians of both, measured alternately, so that other load on the machine affects both equally."""
    pairs = [(value(), baseline()) for _ in range(times)]
    return Measured(statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs))


def command(words: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Runs a command and returns its output.

    Raises:
        Unmeasured: it failed; the message has the end of its stderr.
    """
    done = subprocess.run(
        words, env={**os.environ, **(environment or {})}, cwd=cwd, stdin=subprocess.DEVNULL,
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise Unmeasured(f"{' '.join(words)} failed with exit code {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout
