"""A tiny project with a real Dagster webserver and daemon: pushes commits and reads timings from ledger and Dagster.

All benchmarks that need it share one home. It uses the local profile with its defaults; only the ports are set.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from benchmarks.harness import Unmeasured
from benchmarks.inputs import random_model
from benchmarks.place import Place
from llmops_assets.delivery.run_tags import REQUEST_TAG
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import AnyRecord
from llmops_assets.domain.requests import Request
from tests.support.live import Live
from tests.support.projects import Project
from tests.support.waiting import wait_for

NAME = "zoo"


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


class Timed(Live):
    """The project, its home, and the running services."""

    def __init__(
        self, place: Place, folder: str = "watched", variables: Mapping[str, str] | None = None, **settings: Any
    ):
        root = place.folder(folder)
        super().__init__(root / "home", Project.create(root / NAME, NAME, random_model(root / "base")), **settings)
        place.enter(self.running(**variables or {}))
        self.first = self.deliver()
        """The first commit: the whole chain, from nothing to production."""

    def deliver(self) -> Delivered:
        """Pushes the commits and waits until their request and run have ended.

        Raises:
            Unmeasured: the request failed, or needed more than one run.
        """
        revision, pushed = self.project.head, time.time()
        self.project.push()
        self.announce()
        request = wait_for(f"the end of {short(revision)}", lambda: self.ended(revision))
        runs = self.instance.get_run_records(filters=dg.RunsFilter(tags={REQUEST_TAG: request.name}))
        if request.status not in ("released", "done") or request.generation != 1 or len(runs) != 1:
            raise Unmeasured(f"{request.name} is {request.status} after {len(runs)} runs: {request.detail}")
        return Delivered(revision, pushed, runs[0].end_time or time.time(), request, runs[0])

    def announce(self) -> None:
        """What a Git server does after a push."""

    def records(self, delivered: Delivered) -> dict[str, AnyRecord]:
        """Stage → record, for the stages that the delivery's own run computed."""
        found = self.ledger.records_of(NAME, delivered.revision)
        run_id = delivered.run.dagster_run.run_id
        return {stage: record for stage, record in found.items() if record.made_by.run_id == run_id}


def watched(place: Place) -> Timed:
    """The shared project of this benchmark run, whose first commit is in production."""
    return place.shared("watched", lambda: Timed(place))
