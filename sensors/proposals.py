"""The sensor that proposes commits."""

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.proposals import Proposals
from sensors.beside_ticks import build_telling_sensor


def build_proposal_sensor(project: ProjectSource, settings: Settings) -> dg.SensorDefinition:
    """Pushes a commit of the bot when imported data, or a prompt of the registry, has moved."""
    assert project.proposals is not None
    return build_telling_sensor(
        f"{project.group}_proposals",
        settings.upkeep,
        f"Proposes commits to {project.name} when its imported data or a prompt of MLflow's registry has moved.",
        "proposals",
        "looking",
        lambda clients: Proposals(project, clients).run,
    )
