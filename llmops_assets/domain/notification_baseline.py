"""What a target of notifications is not told about, because it happened before the target was first seen. Pure."""

from collections.abc import Iterable, Sequence

from pydantic import Field

from llmops_assets.domain.models import Frozen
from llmops_assets.domain.notifications import Closing, Event, Rolled


class Baseline(Frozen):
    """What the ledger held when a target was first seen: history that it is not told about.

    Ids and not times: they keep their order when a clock is set back.
    """

    request: int = Field(description="The newest request's id.")
    rollout: int = Field(description="The newest rollout's id.")
    open: tuple[int, ...] = Field(default=(), description="Older requests that had not ended, or waited for a person.")
    running: tuple[int, ...] = Field(default=(), description="Older rollouts that had not ended.")
    recovered: tuple[str, ...] = Field(default=(), description="Keys of the endpoints' recoveries that are history.")

    @classmethod
    def of(
        cls, closings: Sequence[Closing], rollouts: Sequence[Rolled], recoveries: Iterable[Event] = ()
    ) -> "Baseline":
        return cls(
            request=max((c.id for c in closings), default=0),
            rollout=max((r.id for r in rollouts), default=0),
            open=tuple(c.id for c in closings if c.request.active or c.request.status == "waiting"),
            running=tuple(r.id for r in rollouts if r.state.status == "running"),
            recovered=tuple(e.key for e in recoveries if e.kind == "endpoint_up"),
        )

    def until(
        self, before: float, closings: Sequence[Closing], rollouts: Sequence[Rolled], events: Iterable[Event]
    ) -> "Baseline":
        """The same, moved on: what ended before this time is history too, and its messages need not be kept."""
        request = max([self.request, *(c.id for c in closings if c.at < before)])
        rollout = max([self.rollout, *(r.id for r in rollouts if r.at < before)])
        ended = {c.id for c in closings if c.at < before and not c.request.active and c.request.status != "waiting"}
        returned = {r.id for r in rollouts if r.at < before and r.state.status != "running"}
        ids = [*self.open, *(c.id for c in closings if self.request < c.id <= request)]
        running = [*self.running, *(r.id for r in rollouts if self.rollout < r.id <= rollout)]
        old = (e.key for e in events if e.kind == "endpoint_up" and (e.at < before or e.key in self.recovered))
        return Baseline(
            request=request,
            rollout=rollout,
            open=tuple(i for i in ids if i not in ended),
            running=tuple(i for i in running if i not in returned),
            recovered=tuple(old),
        )

    def covers(self, event: Event) -> bool:
        """Whether the event is history."""
        if event.kind == "endpoint_up":
            return event.key in self.recovered
        if event.request_id is not None:
            return event.request_id <= self.request and event.request_id not in self.open
        if event.rollout_id is not None:
            return event.rollout_id <= self.rollout and event.rollout_id not in self.running
        return False
