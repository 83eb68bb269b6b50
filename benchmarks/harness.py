"""What every benchmark shares: figures, goals, and how they are shown. What is measured belongs in the other modules.

A figure exists only if it was measured: a benchmark that fails, or whose baseline is not a number above zero, leaves
a reason and no figure.
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
    """The benchmark could not be run, or what it saw is not what it claims to measure; the message says why."""


class Measured(NamedTuple):
    value: float
    baseline: float
    detail: str = ""
    """Where the time went: shown when a goal is missed."""


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
    """One figure."""

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
    """One-minute load average of the machine when it was measured: on a busy one a missed goal may be the machine's."""

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
        Unmeasured: what came out is no figure.
    """
    value, baseline, detail = benchmark.measure(place)
    for what, seen in (("value", value), ("baseline", baseline)):
        if not (math.isfinite(seen) and seen > 0):
            raise Unmeasured(f"its {what} came out as {seen:g}, which measures nothing")
    return Figure(benchmark, value, baseline, detail, os.getloadavg()[0])


def run_all(
    benchmarks: Iterable[Benchmark], place: Place, say: Callable[[str], None]
) -> tuple[list[Figure], list[str]]:
    """Figures, and the names of the benchmarks that could not be measured. A line is said for each at once."""
    figures, failed = [], []
    for benchmark in benchmarks:
        try:
            figures.append(take(benchmark, place))
            say(figures[-1].line())
        except Exception as error:  # one that cannot run must not take the others along; it is said and counted
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
    """Medians of both, taken in turn, so that whatever else the machine does falls on both alike."""
    pairs = [(value(), baseline()) for _ in range(times)]
    return Measured(statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs))


def command(words: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Runs a command to its end; its output.

    Raises:
        Unmeasured: it failed; with the end of what it said.
    """
    done = subprocess.run(
        words, env={**os.environ, **(environment or {})}, cwd=cwd, stdin=subprocess.DEVNULL,
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise Unmeasured(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout
