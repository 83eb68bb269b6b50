"""The sensor that proposes commits."""

import threading
from collections.abc import Callable

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.proposals import Proposals, Proposed
from llmops_assets.domain.webhooks import PROPOSES_TAG
from resources.assembly import Clients
from sensors.beside_ticks import build_telling_sensor


def build_proposal_sensor(project: ProjectSource, settings: Settings) -> dg.SensorDefinition:
    """Pushes a commit of the bot when imported data, or a prompt of the registry, has moved."""
    assert project.proposals is not None
    announced = threading.Event()

    def start(clients: Clients) -> Callable[[], Proposed]:
        proposals = Proposals(project, clients)

        def round_() -> Proposed:
            at_once = announced.is_set()
            announced.clear()
            return proposals.run(at_once)

        return round_

    return build_telling_sensor(
        f"{project.group}_proposals",
        settings.upkeep,
        f"Proposes commits to {project.name} when its imported data or a prompt of MLflow's registry has moved.",
        "proposals",
        "looking",
        start,
        announced,
        {PROPOSES_TAG: project.name},
    )
