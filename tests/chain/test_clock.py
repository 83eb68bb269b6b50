"""The wall clock jumps during a run, under the real daemon: nothing is lost, runs twice, or stays idle.

Dagster's processes and the runs see a clock that this test sets; the machine's own clock does not change.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from resources.local_services import services
from tests.support.live import Live
from tests.support.waiting import wait_for

COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler, which the clock that can be set needs")
DAY, HOUR = 86_400, 3600


class Clock:
    """The wall clock of every process that is started with `environment`."""

    def __init__(self, folder: Path):
        self.file, library = folder / "ahead", folder / "wall_clock.so"
        source = Path(__file__).parents[1] / "support" / "wall_clock.c"
        subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_AHEAD": str(self.file)}
        self.set(0)

    def set(self, ahead: int) -> None:
        """Sets the clock this many seconds ahead of the machine's own."""
        new = self.file.with_suffix(".new")
        new.write_text(str(ahead))
        new.replace(self.file)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def live(start_live: Callable[..., Live], clock: Clock) -> Live:
    return start_live({"training": {"max_steps": 200}}, **clock.environment)


def daemon(live: Live) -> int:
    return services.processes(live.settings)["dagster-daemon"].pid


def one_run(live: Live, sha: str) -> bool:
    return [[r.status for r in live.runs(q)] for q in live.requests(sha)] == [[dg.DagsterRunStatus.SUCCESS]]


def test_a_day_forward_in_mid_training_ends_and_doubles_nothing(live: Live, clock: Clock) -> None:
    sha = live.project.push()
    wait_for("training", lambda: live.training(at_least=5))
    clock.set(DAY)
    request = wait_for("the release", lambda: live.ended(sha), every_s=0.5)
    assert (request.status, request.generation) == ("released", 1)
    assert one_run(live, sha)
    events = live.ledger.events()
    assert events[-1]["at"] - events[0]["at"] > DAY, "the running processes saw the clock jump"


def test_an_hour_back_in_mid_run_stops_nothing(live: Live, clock: Clock) -> None:
    """Dagster's loops measure intervals by the wall clock: its queue and all sensors were idle for the hour."""
    before = daemon(live)
    sha = live.project.ship("Another context", {"deployment": {"serving": {"context_length": 320}}})
    wait_for("a run in progress", lambda: live.worker(sha))
    (*lost, running) = live.requests(sha)
    assert not any(live.runs(q) for q in lost), "at most a request that a restarting daemon did not launch"
    clock.set(DAY - HOUR)
    wait_for("a daemon that knows the time", lambda: daemon(live) not in (0, before))
    live.project.write("tests/test_nothing_is_broken.py", "def test_two_and_one_are_three():\n    assert 2 + 1 == 3\n")
    live.project.commit("Another test")
    newer = live.project.push()
    request = wait_for("the release", lambda: live.ended(sha), every_s=0.5)
    assert (request.status, request.generation) == ("released", running.generation)
    assert [r.status for r in live.runs(request)] == [dg.DagsterRunStatus.SUCCESS]
    done = wait_for("the newer one's end", lambda: live.ended(newer), every_s=0.5)
    assert (done.status, done.generation) == ("done", 1)
    assert one_run(live, newer)
    assert live.ledger.verify_audit() > 0
