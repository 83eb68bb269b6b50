"""location_load: loading the code location in a fresh interpreter, over `import dagster` alone."""

import sys

from benchmarks.harness import Benchmark, Goal, Measured, command, interleaved, seconds_of
from benchmarks.place import Place
from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import dump_settings
from llmops_assets.config.watched_project import ProjectSource

LOAD = "from llmops_assets.definitions import defs; assert defs.get_repository_def().asset_graph"


def measure(place: Place) -> Measured:
    return measure_with(place, 1)


def measure_with(place: Place, count: int) -> Measured:
    """Loads a location with so many projects. Their repositories need not exist: loading opens none."""
    home = place.folder("location")
    projects = tuple(ProjectSource(name=f"zoo-{n:03}", repository=str(home / "nowhere")) for n in range(count))
    (home / "settings.yaml").write_text(dump_settings(Settings(home=home, projects=projects)))
    environment = {"LLMOPS_HOME": str(home), "LLMOPS_SETTINGS": str(home / "settings.yaml")}

    def fresh(code: str) -> float:
        return seconds_of(lambda: command([sys.executable, "-c", code], environment))

    for code in (LOAD, "import dagster"):
        fresh(code)  # warm-up: compiles and fills the page cache
    value, baseline, _ = interleaved(lambda: fresh(LOAD), lambda: fresh("import dagster"), 2 if place.quick else 9)
    return Measured(value, baseline)


BENCHMARK = Benchmark(
    name="location_load",
    unit="s",
    against="import dagster in a fresh interpreter",
    goals=(Goal("ratio", "at most", 1.5),),
    measure=measure,
)
