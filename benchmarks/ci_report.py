"""ci_report: the program of the CI stage on a project of 150 modules, over the same tools run bare, one after another.

The tools are ruff, detect-secrets and pytest. Both sides check the same files and must find no problem; ours adds the
private copy, the isolation and the reports.
"""

import sys
from functools import partial
from pathlib import Path

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, command, interleaved, seconds_of
from benchmarks.place import Place
from llmops_assets.programs.runtime.specs import CiResult, CiSpec
from resources.compute.interface import Job
from resources.compute.local import LocalCompute

MODULES, QUICK_MODULES = 150, 5
TOOLS = (
    ("-m", "ruff", "check", "--no-cache", "--isolated", "."),
    ("-m", "detect_secrets", "scan", "--no-verify", "--all-files", "."),
    ("-m", "pytest", "-q", "-p", "no:cacheprovider", "."),
)


def measure(place: Place) -> Measured:
    tree = _project(place.folder("ci-project"), QUICK_MODULES if place.quick else MODULES)
    compute = LocalCompute(place.folder("ci-home"), threads=1, poll_s=0.02)
    place.at_end(compute.cancel_all)
    runs = iter(range(1_000))
    _ours(compute, tree, next(runs))  # warm-up: imports what programs are forked from
    _bare(tree)
    return interleaved(
        lambda: seconds_of(partial(_ours, compute, tree, next(runs))),
        lambda: seconds_of(partial(_bare, tree)),
        1 if place.quick else 7,
    )


def _ours(compute: LocalCompute, tree: Path, number: int) -> None:
    spec = CiSpec(work_tree=str(tree), secrets=True)
    done = compute.run(Job(name=f"ci-{number}", program="ci", spec=spec.model_dump(mode="json")))
    checks = {c.name: c for c in done.read(CiResult).checks}
    if checks.keys() < {"ruff", "secrets", "tests"} or not all(checks[n].passed for n in ("ruff", "secrets", "tests")):
        raise Unmeasured(f"it found problems: {', '.join(f'{c.name}: {c.summary}' for c in checks.values())}")


def _bare(tree: Path) -> None:
    for words in TOOLS:
        command([sys.executable, *words], {"PYTHONDONTWRITEBYTECODE": "1"}, cwd=tree)


def _project(tree: Path, modules: int) -> Path:
    """Modules of 40 functions each, and a test for every function of each tenth of them."""
    for folder in ("src", "tests"):
        (tree / folder).mkdir()
    for number in range(modules):
        body = "\n\n".join(
            f'def add_{n}(value: int) -> int:\n    """Adds {n} to a value."""\n    return value + {n}\n'
            for n in range(40)
        )
        (tree / f"src/module_{number}.py").write_text(body)
        if number % 10 == 0:
            tests = "\n\n".join(
                f"def test_add_{n}() -> None:\n    assert (1 + {n}) - 1 == int('{n}')\n" for n in range(40)
            )
            (tree / f"tests/test_module_{number}.py").write_text(tests)
    return tree


BENCHMARK = Benchmark(
    name="ci_report",
    unit="s",
    against="ruff, detect-secrets and pytest bare",
    goals=(Goal("ratio", "at most", 1.2),),
    measure=measure,
)
