"""The sensor that answers on the code host. It starts no run; its ticks say what was posted, and what was not."""

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.code_host import Answered, CodeHostAnswers
from llmops_assets.delivery.request_runs import explains_skips
from llmops_assets.machine.background import Background, StillRunning
from resources.assembly import RESOURCE_KEYS, Clients

PATIENCE_S = 1.0
"""How long a tick waits: the daemon evaluates sensors one after another, and a request may take 10 s."""


def build_code_host_sensor(project: ProjectSource, settings: Settings) -> dg.SensorDefinition:
    """Answers on a project's code host beside the ticks of the other sensors, which it never delays or fails."""
    work = Background[Answered](PATIENCE_S)
    kept: list[CodeHostAnswers] = []
    assert project.code_host is not None

    @dg.sensor(
        name=f"{project.group}_code_host",
        minimum_interval_seconds=settings.poll,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Shows on {project.code_host.via} what becomes of the commits of {project.name}. Starts no run.",
        required_resource_keys=set(RESOURCE_KEYS),
    )
    @explains_skips
    def _sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if not kept:
            kept.append(CodeHostAnswers(project, Clients.of(context.resources)))
        try:
            found = work(kept[0].run)
        except StillRunning as error:
            return dg.SkipReason(f"posting: {error}")
        if found.faults:
            context.log.warning(f"code host: {'; '.join(found.faults)}")
        return dg.SkipReason(str(found))

    return _sensor
