"""The sensor that sends a project's notifications."""

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.notifications import Notifications
from sensors.beside_ticks import build_telling_sensor


def build_notification_sensor(project: ProjectSource, settings: Settings) -> dg.SensorDefinition:
    """Tells a project's targets what happened."""
    return build_telling_sensor(
        f"{project.group}_notifications",
        settings.upkeep,
        f"Tells {', '.join(t.name for t in settings.targets(project))} what happened to {project.name}.",
        "notifications",
        "sending",
        lambda clients: Notifications(project, clients).run,
    )
