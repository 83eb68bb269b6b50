"""The sensor that sends a project's notifications. It starts no run; its ticks say what was sent, and what was not."""

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.notifications import Delivered, Notifications
from llmops_assets.delivery.request_runs import explains_skips
from llmops_assets.machine.background import Background, StillRunning
from resources.assembly import RESOURCE_KEYS, Clients

PATIENCE_S = 1.0
"""How long a tick waits: the daemon evaluates sensors one after another, and sending may take 10 s an attempt."""


def build_notification_sensor(project: ProjectSource, settings: Settings) -> dg.SensorDefinition:
    """Sends a project's notifications beside the ticks of the other sensors, which it never delays or fails."""
    work = Background[Delivered](PATIENCE_S)
    kept: list[Notifications] = []

    @dg.sensor(
        name=f"{project.group}_notifications",
        minimum_interval_seconds=settings.upkeep,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Tells {', '.join(t.name for t in settings.targets(project))} what happened to {project.name}. "
        "Starts no run.",
        required_resource_keys=set(RESOURCE_KEYS),
    )
    @explains_skips
    def _sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if not kept:
            kept.append(Notifications(project, Clients.of(context.resources)))
        try:
            found = work(kept[0].run)
        except StillRunning as error:
            return dg.SkipReason(f"sending: {error}")
        if found.faults:
            context.log.warning(f"notifications: {'; '.join(found.faults)}")
        return dg.SkipReason(str(found))

    return _sensor
