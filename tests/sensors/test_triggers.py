"""Schedules and the data's age, through the real sensor, ledger and chain."""

import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from llmops_assets.config.triggers import Schedule
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.domain.requests import DATA_AGE, SCHEDULE
from sensors.triggers import build_trigger_sensor
from tests.support.projects import LIGHT, Outcome, Project, World

SOON = 120.0


class Scheduled:
    """A world whose project has a schedule of every minute, and data that is never young enough.

    The commit's results exist already, and its request is done.
    """

    def __init__(self, project: Project, world: World):
        self.project, self.world, self.now = project, world, time.time()
        world.source().git.fetch()
        request = world.ledger.open_request("zoo", project.head, 1, "first run of this project")
        world.ledger.close(request, "done", "as this story needs it")

    def tick(self) -> tuple[str, list[dg.RunRequest]]:
        """A tick of a sensor that was built just now, as after a restart."""
        settings = self.world.settings
        job = self.world.defs.resolve_job_def("zoo_deliver")
        sensor = build_trigger_sensor(settings.projects[0], job, settings, clock=lambda: self.now)
        resources = self.world.clients.as_resources()
        with dg.build_sensor_context(instance=self.world.instance, resources=resources) as context:
            data = sensor.evaluate_tick(context)
        return data.skip_message or "", list(data.run_requests or [])

    def asked(self, by: str) -> list[str]:
        return [r.reason for r in self.world.ledger.requests("zoo") if r.asked_by == by]


@pytest.fixture(scope="module")
def scheduled(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> Scheduled:
    project = make_project()
    source = ProjectSource(
        name="zoo",
        repository=str(project.remote),
        schedules=(Schedule(cron="* * * * *", rebuild="ci_report"),),
        data_max_age=0.001,
    )
    world = make_world(project, computed=computed, projects=(source,))
    project.ship("Light", LIGHT)
    return Scheduled(project, world)


def test_a_new_schedule_starts_nothing_for_earlier_times_and_old_data_is_told_once(scheduled: Scheduled) -> None:
    said, runs = scheduled.tick()
    assert runs == [] and "older than" in said and "no schedule is due" in said
    assert scheduled.tick() == ("no schedule is due", [])
    [reason] = scheduled.asked(DATA_AGE)
    assert reason in said


def test_a_time_that_comes_makes_the_stage_again_in_one_run(scheduled: Scheduled) -> None:
    scheduled.now += SOON
    _, [run] = scheduled.tick()
    [reason] = scheduled.asked(SCHEDULE)
    assert reason.startswith("schedule '* * * * *' (UTC) of ") and reason.endswith("ci_report again")
    assert run.tags["llmops/why"] == reason and run.tags["llmops/revision"] == scheduled.project.head
    assert scheduled.tick()[1] == [], "its row is the lock, also for another daemon"
    outcome = Outcome.of(scheduled.world.execute("zoo", run))
    assert outcome.computed & {"ci_report", "dataset_version", "fine_tuned_checkpoint"} == {"ci_report"}, (
        outcome.failures
    )


def test_a_later_time_waits_for_the_active_run(scheduled: Scheduled) -> None:
    scheduled.now += SOON
    ledger = scheduled.world.ledger
    if not any(r.active for r in ledger.requests("zoo")):
        newer = scheduled.project.ship("Another commit", {"training": {"max_steps": 3}})
        scheduled.world.source().git.fetch()
        ledger.open_request("zoo", newer, 1, "another commit")
    said, runs = scheduled.tick()
    assert runs == [] and "waits for" in said
    assert len(scheduled.asked(SCHEDULE)) == 1
