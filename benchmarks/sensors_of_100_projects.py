"""sensors_of_100_projects: the longest pause between two ticks of any of 300 sensors, under Dagster's real daemon.

Nothing has changed in any project. The baseline is the interval that the sensors ask for: a daemon that cannot keep up,
or that lets some sensors starve, shows a longer pause. Ticks with an error make the benchmark fail.
"""

import time
from functools import partial
from itertools import pairwise
from pathlib import Path

from dagster._core.scheduler.instigation import InstigatorTick

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured
from benchmarks.inputs import random_model
from benchmarks.place import Place
from llmops_assets.config.settings_file import dump_settings
from resources.assembly import build_clients
from tests.support.live import Live
from tests.support.many_projects import make_repositories, note_heads, sources_of
from tests.support.projects import Project
from tests.support.waiting import wait_for

PROJECTS, QUICK = 100, 3
INTERVALS = 2
"""Intervals that are watched, after the first tick of every sensor."""


class ManyProjects(Live):
    """A home with a daemon that watches these repositories."""

    def __init__(self, home: Path, template: Project, repositories: list[Path]):
        super().__init__(home, template)
        self.settings = self.settings.model_copy(update={"projects": sources_of(list(map(str, repositories)))})
        (home / "settings.yaml").write_text(dump_settings(self.settings))
        self.clients = build_clients(self.settings)
        note_heads(self.clients.ledger, repositories)

    def ticks(self, since: float) -> dict[str, list[InstigatorTick]]:
        """Sensor → its ticks since then, oldest first."""
        found = {}
        for state in self.instance.all_instigator_state():
            if state.name.endswith(("_git", "_dvc", "_recovery")):
                newest_first = self.instance.get_ticks(state.instigator_origin_id, state.selector_id, after=since)
                found[state.name] = list(reversed(newest_first))
        return found

    def all_ticked(self, since: float) -> bool:
        return sum(bool(ticks) for ticks in self.ticks(since).values()) == 3 * len(self.settings.projects)


def measure(place: Place) -> Measured:
    root, projects = place.folder("sensors"), QUICK if place.quick else PROJECTS
    template = Project.create(root / "zoo", "zoo", random_model(root / "base"))
    repositories = make_repositories(template, root / "remotes", projects)
    many = ManyProjects(root / "home", template, repositories)
    started, interval = time.time(), many.settings.look_every
    place.enter(many.running())
    wait_for("the first tick of every sensor", partial(many.all_ticked, started))
    began = time.time()
    time.sleep(max(10.0, INTERVALS * interval))
    ended, found = time.time(), many.ticks(began)
    if failed := [name for name, ticks in found.items() if any(t.is_failure for t in ticks)]:
        raise Unmeasured(f"{len(failed)} sensors failed, such as {failed[0]}")
    pauses = []
    for ticks in found.values():
        times = [began, *(t.timestamp for t in ticks), ended]
        pauses.append(max(after - before for before, after in pairwise(times)))
    told = f"{sum(map(len, found.values()))} ticks of {len(found)} sensors in {ended - began:.0f} s"
    return Measured(max(pauses), float(interval), told)


BENCHMARK = Benchmark(
    name="sensors_of_100_projects",
    unit="s",
    against="the interval of its sensors",
    goals=(Goal("ratio", "at most", 1.5),),
    measure=measure,
)
