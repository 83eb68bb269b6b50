"""Another process has the ledger locked: for seconds, for longer than a tick may take, while a run is at work.

Real locks of a real process. Who must write waits and goes on; who cannot wait says who holds it, and nothing is lost.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from resources.ledger.transactions import PATIENCE_S
from tests.support.projects import Project, World

pytestmark = pytest.mark.timeout(300)

HOLD = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
c.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(world: World) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the ledger until the block ends, or until it is released."""
    command = [sys.executable, "-c", HOLD, str(world.home / "ledger.sqlite")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


class Watched:
    """A project, and the world that watches it."""

    def __init__(self, project: Project, world: World):
        self.project, self.world = project, world


@pytest.fixture(scope="module")
def watched(make_world: Callable[..., World], make_project: Callable[[], Project]) -> Watched:
    project = make_project()
    project.push()
    return Watched(project, make_world(project))


def test_a_tick_waits_for_a_lock_of_seconds(watched: Watched) -> None:
    assert watched.world.ledger.requests("zoo") == []
    with locked(watched.world) as holder:
        threading.Timer(10, holder.kill).start()
        began = time.monotonic()
        skip, requests = watched.world.tick("zoo_git")
        assert time.monotonic() - began > 5, "it waited"
    assert skip is None and len(requests) == 1


def test_for_minutes_a_run_waits_and_goes_on_and_everyone_else_says_who_holds_it(watched: Watched) -> None:
    """A run may hold hours of work. A tick has a minute in all: it is skipped, and the next one goes on."""
    world = watched.world
    world.ledger.close(world.ledger.requests("zoo")[-1], "done", "for this test")
    watched.project.write("README.md", "# Words\n")
    watched.project.ship("Words")
    with locked(world) as holder, ThreadPoolExecutor(2) as aside:
        tick, status = aside.submit(world.tick, "zoo_git"), aside.submit(world.llmops, "status")
        threading.Timer(PATIENCE_S + 10, holder.kill).start()
        began = time.monotonic()
        result = world.materialize("zoo", "ci_report")
        assert time.monotonic() - began > PATIENCE_S, "it waited longer than a tick may"
        skip, requests = tick.result()
        code, said = status.result()
    who = f"ledger.sqlite is locked by process {holder.pid} (python"
    assert requests == [] and skip is not None
    assert f"{who}" in skip and "Remedy: end that process if it hangs" in skip and "\n" not in skip
    assert code == 0
    assert [line for line in said.splitlines() if line.startswith("trouble: ") and who in line], said
    assert result.success and set(world.ledger.records_of("zoo", watched.project.head)) == {"ci_report"}
    told = world.instance.all_logs(result.run_id)
    assert any("waiting for the ledger" in e.message and who in e.message for e in told)
    skip, _ = world.tick("zoo_git")
    assert "README.md" in (skip or "") and world.ledger.requests("zoo")[-1].status == "skipped"
    assert "trouble" not in world.llmops("status")[1]
