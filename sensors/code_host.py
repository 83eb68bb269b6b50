"""The sensor that answers on the code host."""

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.code_host import CodeHostAnswers
from sensors.beside_ticks import build_telling_sensor


def build_code_host_sensor(project: ProjectSource, settings: Settings) -> dg.SensorDefinition:
    """Shows on a project's code host what becomes of its commits."""
    assert project.code_host is not None
    return build_telling_sensor(
        f"{project.group}_code_host",
        settings.look_every,
        f"Shows on {project.code_host.via} what becomes of the commits of {project.name}.",
        "code host",
        "posting",
        lambda clients: CodeHostAnswers(project, clients).run,
    )
