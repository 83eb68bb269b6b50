"""Drift of users' requests, through the real sensor, ledger and chain, from the log that the gateway writes."""

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llmops_assets.config.triggers import Drift
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.domain.notifications import derive
from llmops_assets.domain.requests import DRIFT, SCHEDULE
from sensors.triggers import build_trigger_sensor
from tests.support.projects import LIGHT, Project, World

WINDOW = 3600.0
RULE = Drift(window=WINDOW, requests=200, rebuild="fine_tuned_checkpoint")


class Users:
    """An endpoint in production, whose users the gateway's log shows; and the project's sensor."""

    def __init__(self, project: Project, world: World):
        self.project, self.world, self.now = project, world, time.time()
        self._random = random.Random(3)
        world.source().git.fetch()
        request = world.ledger.open_request("zoo", project.head, 1, "first run of this project")
        world.ledger.close(request, "released", "as this story needs it")
        self.log = world.settings.home / "serving" / "logs" / "access.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.restart()

    def serve(self, release: str) -> None:
        self.world.ledger.serve("zoo", "production", release, self.project.head)

    def restart(self) -> None:
        """The sensor of a code server that was started just now."""
        settings = self.world.settings
        job = self.world.defs.resolve_job_def("zoo_deliver")
        self._sensor = build_trigger_sensor(settings.projects[0], job, settings, clock=lambda: self.now)

    def ask(self, size: float, hours: float, count: int = 300, release: str = "a" * 64) -> None:
        """That many requests, evenly over these hours, of lognormal sizes around this one."""
        with self.log.open("a") as file:
            for _ in range(count):
                self.now += hours * 3600 / count
                entry: dict[str, Any] = {
                    "start": f"{self.now:.6f}", "route": "users", "cluster": f"zoo/production/{release}",
                    "method": "POST", "status": 200, "details": "via_upstream", "flags": None, "ms": 20, "first_ms": 9,
                    "sent": 100, "received": round(size * self._random.lognormvariate(0, 0.5)),
                }  # fmt: skip
                file.write(json.dumps(entry) + "\n")

    def tick(self) -> tuple[str, list[dg.RunRequest], list[Any]]:
        resources = self.world.clients.as_resources()
        with dg.build_sensor_context(instance=self.world.instance, resources=resources) as context:
            data = self._sensor.evaluate_tick(context)
        return data.skip_message or "", list(data.run_requests or []), list(data.asset_events)

    def asked(self, by: str) -> list[str]:
        return [r.reason for r in self.world.ledger.requests("zoo") if r.asked_by == by]


@pytest.fixture(scope="module")
def users(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> Iterator[Users]:
    project = make_project()
    source = ProjectSource(name="zoo", repository=str(project.remote), drift=RULE)
    world = make_world(project, computed=computed, projects=(source,))
    project.ship("Light", LIGHT)
    yield Users(project, world)


def test_without_an_endpoint_there_is_nothing_to_compare(users: Users) -> None:
    assert users.tick()[0] == "production serves nothing"


def test_the_first_window_of_requests_is_the_reference(users: Users) -> None:
    users.serve("a" * 64)
    assert "the reference has 0 requests of at least 200" in users.tick()[0]
    users.ask(400, hours=0.9, count=900)
    users.restart()
    assert "the reference has 900 requests" in users.tick()[0], "a restart reads them again from the log"
    users.ask(400, hours=1.2, count=1200)
    said, runs, [shown] = users.tick()
    assert "request sizes: PSI 0.0" in said and "(limit 0.2) over " in said and runs == []
    assert shown.asset_key == dg.AssetKey(["zoo", "endpoint_health"])
    assert shown.metadata["drift_psi"].value < 0.1


def test_a_short_excess_or_another_release_is_no_drift(users: Users) -> None:
    users.ask(2000, hours=0.5)
    assert "PSI" in users.tick()[0]
    users.serve("b" * 64)
    users.ask(400, hours=2, count=2000, release="b" * 64)
    users.restart()
    said, runs, _ = users.tick()
    assert "request sizes: PSI 0.0" in said and runs == [], "the reference stays: the test rows are the same"
    assert users.asked(DRIFT) == []


def test_a_drift_that_lasts_is_told_once_and_makes_the_stage_again_in_one_run(users: Users) -> None:
    told: list[dg.RunRequest] = []
    for _ in range(6):
        users.ask(2000, hours=0.5, release="b" * 64)
        users.restart()
        told += users.tick()[1]
    [run], [reason] = told, users.asked(DRIFT)
    assert reason.startswith("users' requests differ in size from those of the first 1 h, since ")
    assert users.asked(SCHEDULE) == [f"{reason}: fine_tuned_checkpoint again"] == [run.tags["llmops/why"]]
    events = [e for e in derive("zoo", users.world.ledger.closings("zoo"), [], {}) if e.kind == "drift"]
    assert [e.detail for e in events] == [reason]


def test_requests_whose_size_an_older_gateway_did_not_record_are_left_out(users: Users) -> None:
    before = users.tick()[0]
    with users.log.open("a") as file:
        line = json.loads(users.log.read_text().splitlines()[-1])
        del line["received"]
        file.write((json.dumps(line) + "\n") * 50)
    assert users.tick()[0] == before
