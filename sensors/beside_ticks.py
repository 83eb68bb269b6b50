"""Sensors that tell other systems what happened, beside the ticks of the others. They start no run."""

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

import dagster as dg

from llmops_assets.delivery.request_runs import explains_skips
from llmops_assets.domain.webhooks import LOOK
from llmops_assets.machine.background import Background, StillRunning
from resources.assembly import RESOURCE_KEYS, Clients

PATIENCE_S = 1.0
"""How long a tick waits: the daemon evaluates sensors one after another, and a request may take 10 s an attempt."""


class Told(Protocol):
    """What a round did; its text is the tick's reason."""

    @property
    def faults(self) -> tuple[str, ...]: ...


def build_telling_sensor(
    name: str,
    interval_s: int,
    description: str,
    what: str,
    doing: str,
    start: Callable[[Clients], Callable[[], Told]],
    announced: threading.Event | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.SensorDefinition:
    """A sensor that never delays or fails another one; its ticks say what was told, and what was not.

    Args:
        what: the other system, before faults in the log.
        doing: what it does, for the tick of a round that goes on.
        start: makes the round from the location's clients, once.
        announced: set by a tick that a webhook asked for.
    """
    work = Background[Told](PATIENCE_S)
    kept: list[Callable[[], Told]] = []

    @dg.sensor(
        name=name,
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"{description} Starts no run.",
        required_resource_keys=set(RESOURCE_KEYS),
        tags=tags,
    )
    @explains_skips
    def _sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if announced is not None and context.cursor == LOOK:
            announced.set()
            context.update_cursor("")
        if not kept:
            kept.append(start(Clients.of(context.resources)))
        try:
            found = work(kept[0])
        except StillRunning as error:
            return dg.SkipReason(f"{doing}: {error}")
        if found.faults:
            context.log.warning(f"{what}: {'; '.join(found.faults)}")
        return dg.SkipReason(str(found))

    return _sensor
