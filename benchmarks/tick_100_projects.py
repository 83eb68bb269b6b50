"""tick_100_projects: one tick of every sensor of 100 projects, one after another, as Dagster's daemon asks for them.

The remotes are behind a network with a round trip of 200 ms, and one never answers. Nothing has changed since the
last tick. The baseline is the same with repositories on this machine's disk.
"""

import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, interleaved
from benchmarks.inputs import random_model
from benchmarks.place import Place
from tests.support.many_projects import make_repositories, note_heads, sources_of
from tests.support.projects import Project, World
from tests.support.remotes import SlowLink, git_daemon

PROJECTS, QUICK = 100, 5
ROUND_TRIP_S = 0.2


def measure(place: Place) -> Measured:
    return measure_with(place, QUICK if place.quick else PROJECTS)


def measure_with(place: Place, projects: int) -> Measured:
    root = place.folder("many")
    template = Project.create(root / "zoo", "zoo", random_model(root / "base"))
    repositories = make_repositories(template, root / "remotes", projects)
    with ExitStack() as stack:
        port = stack.enter_context(git_daemon(root / "remotes"))
        far = stack.enter_context(SlowLink(port, ROUND_TRIP_S).running())
        silent = stack.enter_context(SlowLink(port, hangs=True).running())
        links = [silent, *[far] * (projects - 1)]
        remote = [f"git://127.0.0.1:{link.port}/{path.name}" for link, path in zip(links, repositories, strict=True)]
        worlds = [
            _world(root / "remote", remote, repositories),
            _world(root / "local", list(map(str, repositories)), repositories),
        ]
        for world in worlds:
            stack.callback(world.down)
        for _ in range(4):  # the first looks clone, and the remote that hangs is found to
            for world in worlds:
                _tick_all(world)
            time.sleep(0 if place.quick else 2)
        unseen = sum(not said.endswith("is done") for said in _tick_all(worlds[0])[1])
        if unseen != 2:  # both sensors of the one that hangs
            raise Unmeasured(f"{unseen} ticks did not see their remote's head, instead of 2")
        times = 1 if place.quick else 5
        return interleaved(lambda: _tick_all(worlds[0])[0], lambda: _tick_all(worlds[1])[0], times)


def _world(home: Path, addresses: list[str], repositories: list[Path]) -> World:
    world = World(home, projects=sources_of(addresses))
    note_heads(world.ledger, repositories)
    return world


def _tick_all(world: World) -> tuple[float, list[str]]:
    """Seconds, and what the Git and DVC sensors said."""
    said, began = [], time.perf_counter()
    for project in world.settings.projects:
        for kind in ("git", "dvc", "recovery"):
            skip, _ = world.tick(f"{project.group}_{kind}")
            said += [skip or ""] if kind != "recovery" else []
    return time.perf_counter() - began, said


BENCHMARK = Benchmark(
    name="tick_100_projects",
    unit="s",
    against="the same with local repositories",
    goals=(Goal("value", "at most", 5.0),),
    measure=measure,
)
