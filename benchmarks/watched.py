"""A tiny project with a real Dagster webserver and daemon: pushes commits and reads timings from ledger and Dagster.

All benchmarks that need it share one home. It uses the local profile with its defaults; only the ports are set.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import dagster as dg

from benchmarks.harness import Unmeasured
from benchmarks.inputs import random_model
from benchmarks.place import Place
from llmops_assets.config.settings import ProjectSource, ServingSettings, Settings, dump_settings
from llmops_assets.delivery.run_tags import REQUEST_TAG
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import AnyRecord
from llmops_assets.domain.requests import Request
from resources.assembly import build_clients
from resources.ledger import Ledger
from resources.local_services import services
from tests.support.projects import Project, free_port

NAME = "zoo"
LONGEST_S = 420.0
T = TypeVar("T")


@dataclass(frozen=True)
class Delivered:
    """One push, processed to its end."""

    revision: str
    pushed: float
    """Just before the push, in seconds since the epoch, like Dagster's own times."""
    ended: float
    request: Request
    run: dg.RunRecord
    """The run that completed the request."""


class Watched:
    """The project, its home, and the running services."""

    def __init__(self, place: Place):
        root = place.folder("watched")
        self.project = Project.create(root / NAME, NAME, random_model(root / "base"))
        self.settings = Settings(
            home=root / "home",
            projects=(ProjectSource(name=NAME, repository=str(self.project.remote)),),
            serving=ServingSettings(port=free_port()),
        )
        self.settings.home.mkdir()
        file = self.settings.home / "settings.yaml"
        file.write_text(dump_settings(self.settings))
        self.environment = {"LLMOPS_HOME": str(self.settings.home), "LLMOPS_SETTINGS": str(file),
                            "DAGSTER_HOME": str(self.settings.home / "dagster")}  # fmt: skip
        os.environ.update(self.environment)
        clients = build_clients(self.settings)
        self.ledger: Ledger = clients.ledger
        place.at_end(lambda: clients.serving.down(forget=True))
        place.at_end(clients.compute.cancel_all)
        place.at_end(lambda: services.stop(self.settings))
        services.start(self.settings, free_port(), None, lambda text: None)
        self.instance = dg.DagsterInstance.from_config(self.environment["DAGSTER_HOME"])
        self.first = self.deliver()
        """The first commit: the whole chain, from nothing to production."""

    def deliver(self) -> Delivered:
        """Pushes the commits and waits until their request and run have ended.

        Raises:
            Unmeasured: the request failed, or needed more than one run.
        """
        revision, pushed = self.project.head, time.time()
        self.project.push()
        request = wait_for(f"the end of {short(revision)}", lambda: self._ended(revision))
        runs = self.runs(request)
        if request.status not in ("released", "done") or request.generation != 1 or len(runs) != 1:
            raise Unmeasured(f"{request.name} is {request.status} after {len(runs)} runs: {request.detail}")
        return Delivered(revision, pushed, runs[0].end_time or time.time(), request, runs[0])

    def runs(self, request: Request) -> list[dg.RunRecord]:
        return list(self.instance.get_run_records(filters=dg.RunsFilter(tags={REQUEST_TAG: request.name})))

    def records(self, delivered: Delivered) -> dict[str, AnyRecord]:
        """Stage → record, for the stages that the delivery's own run computed."""
        found = self.ledger.records_of(NAME, delivered.revision)
        run_id = delivered.run.dagster_run.run_id
        return {stage: record for stage, record in found.items() if record.made_by.run_id == run_id}

    def _ended(self, revision: str) -> Request | None:
        found = [r for r in self.ledger.requests(NAME) if r.revision == revision]
        if not found or found[-1].active:
            return None
        return found[-1] if all(r.dagster_run.is_finished for r in self.runs(found[-1])) else None


def wait_for(what: str, look: Callable[[], T | None], seconds: float = LONGEST_S) -> T:
    """Polls `look` until it returns something other than None, and returns that.

    Raises:
        Unmeasured: it did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.2)
    raise Unmeasured(f"{what} did not come within {seconds:g} s")


def watched(place: Place) -> Watched:
    """The shared project of this benchmark run, whose first commit is in production."""
    return place.shared("watched", lambda: Watched(place))
