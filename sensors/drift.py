"""Watches whether users' requests drift, a thin shell over `llmops_assets.domain.drift`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.domain.drift import DriftState, Measured, Sizes, follow, reason_of, shown, sustained
from llmops_assets.domain.requests import DRIFT, Request, another_generation, newest_planned
from llmops_assets.domain.triggers import Due, was_told
from resources.assembly import Clients
from resources.ledger import Conflict, Ledger
from resources.project_source.errors import SourceError
from resources.serving.interface import UserTraffic

NOTED = "drift"
"""The name of the state among the ledger's projections."""
SHOWN_EVERY_S = 600.0
"""An observation of endpoint_health at most every ten minutes: a point in its plot."""


@dataclass(frozen=True)
class Look:
    """What one tick found."""

    said: Sequence[str] = ()
    due: Sequence[Due] = ()
    events: Sequence[dg.AssetObservation] = ()


NOTHING = Look()


class DriftWatch:
    """Keeps the sizes of the newest requests between ticks; after a restart they come from the gateway's log."""

    def __init__(self, project: ProjectSource, clock: Callable[[], float]) -> None:
        assert project.drift is not None
        self._project, self._drift, self._clock = project, project.drift, clock
        self._data = ""
        self._sizes: Sizes
        self._traffic: UserTraffic
        self._shown = 0.0
        self._rows: dict[str, str] = {}

    def look(self, clients: Clients, requests: Sequence[Request]) -> Look:
        ledger, name, drift = clients.ledger, self._project.name, self._drift
        serving = ledger.serving(name, "production")
        if serving is None:
            return Look(said=["production serves nothing"])
        try:
            data = self._test_rows(clients, serving.revision)
        except (SourceError, KeyError) as error:
            return Look(said=[f"drift: the test rows of production's commit are not known: {error}"])
        state = self._state(clients, data)
        for _, request in self._traffic.newer():
            if request.size is not None:
                self._sizes.observe(request.at, request.size)
        if state.reference is None and self._sizes.reference is not None:
            state = state.model_copy(update={"reference": self._sizes.reference})
            self._keep(ledger, state)
        measured = self._sizes.measure()
        if measured is None:
            return Look(said=[self._too_few(state)])
        after = follow(state, measured, drift.above)
        if after != state:
            self._keep(ledger, after)
        said, events = [shown(measured, drift.above)], self._observation(measured)
        newest = newest_planned(requests)
        if newest is None or not sustained(after, measured, drift.window):
            return Look(said, (), events)
        reason = reason_of(after, drift.window)
        if not was_told(requests, DRIFT, reason):
            said.append(tell(ledger, requests, newest, DRIFT, reason))
        due = [Due(cause=reason, at=measured.at, rebuild=drift.rebuild, since=0.0)] if drift.rebuild else []
        return Look(said, due, events)

    def _state(self, clients: Clients, data: str) -> DriftState:
        """The state of the test rows that production's model was evaluated on, begun now if they are new."""
        noted = clients.ledger.projected(self._project.name, NOTED)
        state = DriftState.model_validate_json(noted) if noted else None
        if state is None or state.data != data:
            state = DriftState(data=data, began=self._clock())
            self._keep(clients.ledger, state)
            self._data = ""
        if self._data != data:
            since = state.reference.until if state.reference else state.began
            self._traffic = clients.serving.watch_users(self._project.name, "production", since)
            self._sizes = Sizes(state.began, state.reference, self._drift.window, self._drift.requests)
            self._data = data
        return state

    def _test_rows(self, clients: Clients, revision: str) -> str:
        if revision not in self._rows:
            values = clients.sources(self._project).at(revision).values
            self._rows = {revision: clients.ledger.resolve(values).outputs["dataset_version.test"]}
        return self._rows[revision]

    def _keep(self, ledger: Ledger, state: DriftState) -> None:
        ledger.note_projected(self._project.name, NOTED, state.model_dump_json())

    def _too_few(self, state: DriftState) -> str:
        if state.reference is None:
            return f"drift: the reference has {self._sizes.collected} requests of at least {self._drift.requests}"
        return f"drift: fewer than {self._drift.requests} requests since the reference"

    def _observation(self, measured: Measured) -> list[dg.AssetObservation]:
        if self._clock() - self._shown < SHOWN_EVERY_S:
            return []
        self._shown = self._clock()
        metadata = {"drift_psi": measured.psi, "drift_requests": measured.requests, "drift_limit": self._drift.above}
        return [dg.AssetObservation(asset_key=[self._project.name, "endpoint_health"], metadata=metadata)]


def tell(ledger: Ledger, requests: Sequence[Request], newest: Request, asked_by: str, reason: str) -> str:
    """Adds the ledger's row that says so, from which the notification follows. Returns what a tick says."""
    generation = another_generation(requests, newest.revision)
    try:
        ledger.open_request(newest.project, newest.revision, generation, reason, status="skipped", asked_by=asked_by)
    except Conflict as error:
        return f"another process was faster: {error}"
    return reason
