"""Another process has the ledger locked: for seconds, for longer than a tick may take, during a run.

Real locks of a real process. Others wait and continue, or name the holder if they cannot wait; nothing is lost.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.support.projects import Project, World
from tests.support.waiting import CEILING_S, wait_for

HOLD = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
c.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(world: World) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the ledger's lock until the block ends or the process is killed."""
    command = [sys.executable, "-c", HOLD, str(world.home / "ledger.sqlite")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def tell_nobody(text: str) -> None:
    pass


def test_a_tick_waits_for_a_lock_of_seconds(
    make_world: Callable[..., World], make_project: Callable[[], Project]
) -> None:
    project, said = make_project(), list[str]()
    project.push()
    world = make_world(project, patience=(CEILING_S, said.append))
    assert world.ledger.requests("zoo") == []
    with locked(world) as holder, ThreadPoolExecutor(1) as aside:
        tick = aside.submit(world.tick, "zoo_git")
        wait_for("word that it waits", lambda: said)
        assert not tick.done()
        holder.kill()
        skip, requests = tick.result()
    assert skip is None and len(requests) == 1


def test_for_minutes_a_run_waits_and_resumes_and_every_other_process_names_the_holder(
    make_world: Callable[..., World], make_project: Callable[[], Project]
) -> None:
    """A run may represent hours of work. A tick has one minute in total: it is skipped, and the next one continues."""
    project = make_project()
    project.push()
    world = make_world(project, patience=(1.0, tell_nobody))
    assert len(world.tick("zoo_git")[1]) == 1
    world.ledger.close(world.ledger.requests("zoo")[-1], "done", "for this test")
    project.write("README.md", "# Words\n")
    project.ship("Words")

    def told() -> list[str]:
        logs = [e for run in world.instance.get_runs() for e in world.instance.all_logs(run.run_id)]
        return [e.message for e in logs if "waiting for the ledger" in e.message]

    with locked(world) as holder, ThreadPoolExecutor(3) as aside:
        run = aside.submit(world.materialize, "zoo", "ci_report")
        tick, status = aside.submit(world.tick, "zoo_git"), aside.submit(world.llmops, "status")
        skip, requests = tick.result()
        code, said = status.result()
        waiting = wait_for("the run's word that it waits", told)
        assert not run.done(), "it waits longer than a tick may"
        holder.kill()
        result = run.result()
    who = f"ledger.sqlite is locked by process {holder.pid} (python"
    assert requests == [] and skip is not None
    assert f"{who}" in skip and "Remedy: end that process if it hangs" in skip and "\n" not in skip
    assert code == 0
    assert [line for line in said.splitlines() if line.startswith("trouble: ") and who in line], said
    assert result.success and set(world.ledger.records_of("zoo", project.head)) == {"ci_report"}
    assert any(who in message for message in waiting)
    skip, _ = world.tick("zoo_git")
    assert "README.md" in (skip or "") and world.ledger.requests("zoo")[-1].status == "skipped"
    assert "trouble" not in world.llmops("status")[1]
