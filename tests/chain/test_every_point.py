"""A process dies at each named point between noticing a commit and the end of its run: the commit ends once.

The daemon and the run are this process: what kills it is an exception that nothing catches, thrown by the ledger just
before or just after it has written. Another process then continues, with clients of its own. (`test_kills` and
`test_reboot` kill real processes.)
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llmops_assets.domain.records import AnyRecord
from llmops_assets.domain.recovery import LAUNCH_GRACE_S
from llmops_assets.domain.requests import Request
from llmops_assets.location import build_definitions, job_name
from resources.assembly import build_clients
from resources.ledger import Ledger
from sensors.request_recovery import build_recovery_sensor
from tests.support.projects import Project, World

STAGE = "ci_report"


class Killed(BaseException):
    """The process is gone."""


class Mortal(Ledger):
    """A ledger whose process dies at one call: `before` it has written, or `after`."""

    dies: tuple[str, str] = ("", "")
    meanwhile: Callable[[], None] | None = None
    """Done once, by another process, just before a request is written."""
    opened = False
    """Whether it has opened another generation of a request."""

    def _at(self, when: str, call: str) -> None:
        if self.dies == (when, call):
            raise Killed
        if (when, call) == ("before", "open_request") and (other := self.meanwhile):
            self.meanwhile = None
            other()

    def open_request(self, *args: Any, **more: Any) -> Request:
        self._at("before", "open_request")
        made = super().open_request(*args, **more)
        self._at("after", "open_request")
        return made

    def claim(self, request: Request, run_id: str) -> None:
        self._at("before", "claim")
        super().claim(request, run_id)
        self._at("after", "claim")

    def record_use(self, *args: Any, **more: Any) -> None:
        self._at("before", "record_use")
        super().record_use(*args, **more)
        self._at("after", "record_use")

    def next_generation(self, request: Request, generation: int, reason: str) -> Request:
        self._at("before", "next_generation")
        again = super().next_generation(request, generation, reason)
        self._at("after", "next_generation")
        self.opened = True
        return again

    def find(self, key: str) -> AnyRecord | None:
        if self.opened:
            self._at("opened", "find")
        return super().find(key)

    def close(self, request: Request, status: Any, detail: str) -> bool:
        self._at("before", "close")
        done = super().close(request, status, detail)
        self._at("after", "close")
        return done


class Processes:
    """The processes of one home, one after another: a daemon that ticks, and the runs that it starts.

    A run works on one stage, whose result exists: this is about requests.
    """

    def __init__(self, world: World):
        self.world, self.started = world, 0
        self.waited_s = 0.0
        self.restart()

    def restart(self, when: str = "", call: str = "") -> None:
        """Another process takes over; it dies at this call."""
        ledger = Mortal(self.world.settings.ledger_url)
        ledger.dies = when, call
        self.world.clients = replace(build_clients(self.world.settings), ledger=ledger)
        overrides = {k: v for k, v in vars(self.world.clients).items() if k != "settings"}
        self.world.defs = build_definitions(self.world.settings, **overrides)
        project = self.world.settings.projects[0]
        job = self.world.defs.resolve_job_def(job_name(project))
        self.recovery = build_recovery_sensor(project, job, self.world.settings, lambda: self.waited_s)

    def tick(self) -> list[dg.RunRequest]:
        """One tick of each sensor."""
        asked = [*self.world.tick("zoo_git")[1], *self.world.tick("zoo_dvc")[1]]
        resources = self.world.clients.as_resources()
        with dg.build_sensor_context(instance=self.world.instance, resources=resources) as context:
            asked += self.recovery.evaluate_tick(context).run_requests or []
        return asked

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        self.started += 1
        only = request._replace(asset_selection=[dg.AssetKey(["zoo", STAGE])])
        return self.world.execute("zoo", only)

    def until_it_dies(self) -> None:
        """Ticks and runs until the process has died, in a tick or in a run."""
        try:
            for _ in range(4):
                for request in self.tick():
                    self.run(request)
                if any(run.status == dg.DagsterRunStatus.FAILURE for run in self.world.instance.get_runs()):
                    return
        except Killed:
            return
        raise AssertionError("it has not come to this point")

    def go_on(self) -> None:
        """Ticks and runs until nothing is asked for any more, and no request is active."""
        for _ in range(8):
            for request in self.tick():
                self.run(request)
            self.waited_s += LAUNCH_GRACE_S
            requests = self.world.ledger.requests("zoo")
            if requests and not any(r.active for r in requests):
                return
        raise AssertionError(f"never ends: {self.world.ledger.requests('zoo')}")


@pytest.fixture
def home(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> Processes:
    project = make_project()
    project.push()
    return Processes(make_world(project, computed=computed))


def assert_ended_once(home: Processes, generations: int) -> None:
    ledger = home.world.ledger
    *earlier, last = ledger.requests("zoo")
    assert (last.status, last.generation) == ("done", generations), last
    assert {r.status for r in earlier} <= {"failed"} and len(earlier) == generations - 1
    runs = home.world.instance.get_runs()
    assert sum(run.status == dg.DagsterRunStatus.SUCCESS for run in runs) == 1
    assert STAGE in ledger.records_of("zoo", last.revision)
    assert home.tick() == [], "nothing is left to do"
    assert ledger.verify_audit() > 0


@pytest.mark.parametrize(
    ("when", "call", "generations"),
    [
        ("before", "open_request", 1),  # noticed, but not noted: the next tick notices it again
        ("after", "open_request", 2),  # noted, but Dagster never heard of it
        ("before", "claim", 2),
        ("after", "claim", 2),
        ("before", "record_use", 2),
        ("after", "record_use", 2),  # the work is done, and the run does not know
        ("before", "close", 1),  # the run is done, and nobody has noted it
        ("after", "close", 1),
    ],
)  # fmt: skip
def test_a_commit_ends_once_wherever_its_process_dies(home: Processes, when: str, call: str, generations: int) -> None:
    home.restart(when, call)
    home.until_it_dies()
    home.restart()
    home.go_on()
    assert_ended_once(home, generations)


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_one_who_resumes_may_die_too(home: Processes, when: str) -> None:
    home.restart("after", "open_request")
    with pytest.raises(Killed):
        home.tick()
    home.restart(when, "next_generation")
    with pytest.raises(Killed):
        home.go_on()
    home.restart()
    home.go_on()
    assert_ended_once(home, 2 if when == "before" else 3)


def test_a_generation_is_opened_when_its_run_is_planned_and_not_before(home: Processes) -> None:
    """Else what fails while it plans would use up one of a request's four runs, and 45 seconds."""
    home.restart("after", "open_request")
    with pytest.raises(Killed):
        home.tick()
    home.restart("opened", "find")
    assert home.tick() == []
    home.waited_s += LAUNCH_GRACE_S
    [request] = home.tick()
    home.restart()
    assert home.run(request).success
    home.go_on()
    assert_ended_once(home, 2)


def test_a_tick_that_dagster_repeats_starts_nothing_twice(home: Processes) -> None:
    """After a crash Dagster submits the run requests of a tick again; another worker may have begun by then."""
    [request] = home.tick()
    assert home.tick() == [], "the request is active"
    assert home.run(request).success
    again = home.run(request)
    assert not again.success
    assert "this run is not allowed to work" in str(again.all_events)
    home.go_on()
    assert_ended_once(home, 1)


def test_of_two_daemons_one_starts_a_commit_and_the_other_says_so(home: Processes) -> None:
    """The second one ticks when the first has decided, and has not written yet: the ledger's row is the lock."""
    other = World(home.world.home, projects=home.world.settings.projects)
    asked: list[dg.RunRequest] = []
    ledger = home.world.ledger
    assert isinstance(ledger, Mortal)
    ledger.meanwhile = lambda: asked.extend(other.tick("zoo_git")[1])
    said, requests = home.world.tick("zoo_git")
    assert (len(asked), requests) == (1, [])
    assert "another sensor or `llmops run` was faster" in (said or "")
    assert len(ledger.requests("zoo")) == 1


def test_a_branch_that_is_rewound_and_pushed_again_during_a_run_ends_at_its_last_commit(
    home: Processes, make_project: Callable[[], Project]
) -> None:
    project = Project(Path(home.world.settings.projects[0].address).parent, "zoo")
    first = project.head
    [request] = home.tick()
    second = project.ship("Fewer steps", {"training": {"max_steps": 2}})
    assert home.tick() == []
    project.git("reset", "--quiet", "--hard", first)
    project.push("--force")
    assert home.tick() == [], "the rewound branch is at the commit that runs"
    project.configure({"training": {"max_steps": 5}})
    project.commit("Other steps, and history rewritten")
    third = project.push("--force")
    home.run(request)
    home.go_on()  # the end of the first
    home.go_on()
    found = [(r.revision, r.status) for r in home.world.ledger.requests("zoo")]
    assert found == [(first, "done"), (third, "done")] and second not in str(found)
