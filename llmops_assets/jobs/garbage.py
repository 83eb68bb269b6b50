"""The Dagster job and nightly schedule that collect garbage. What is collected: `llmops_assets.delivery.garbage`."""

import dagster as dg
from pydantic import Field

from llmops_assets.config.settings import Settings
from llmops_assets.delivery.garbage import Busy, Collector
from llmops_assets.domain.formatting import size
from resources.assembly import RESOURCE_KEYS, Clients

JOB = "collect_garbage"


class GarbageConfig(dg.Config):
    """Collect unneeded results, caches and logs."""

    dry_run: bool = Field(default=False, description="Only report what would be collected.")


def build_garbage_job() -> dg.JobDefinition:
    @dg.op(name="collect", required_resource_keys=set(RESOURCE_KEYS))
    def _collect(context: dg.OpExecutionContext, config: GarbageConfig) -> None:
        try:
            report = Collector(Clients.of(context.resources), context.instance, config.dry_run).run()
        except Busy as error:
            context.log.info(str(error))
            return
        for item in report.items:
            context.log.info(f"{item.kind}: {item.name}: {size(item.bytes)}: {item.why}")
        for text in report.left:
            context.log.warning(text)
        rows = [
            dg.TableRecord({"kind": i.kind, "name": i.name, "size": size(i.bytes), "why": i.why}) for i in report.items
        ]
        context.add_output_metadata({"freed": size(report.bytes), "left": "\n".join(report.left) or "nothing"})
        if rows:
            context.add_output_metadata({"collected": dg.MetadataValue.table(rows)})

    @dg.job(
        name=JOB,
        description="Collect unneeded results, caches and old logs, as `llmops gc` does. The settings' `gc` "
        "says what is kept; the run's output lists what went and how much space that freed.",
    )
    def _job() -> None:
        _collect()

    return _job


def build_garbage_schedule(settings: Settings, job: dg.JobDefinition) -> list[dg.ScheduleDefinition]:
    """The nightly schedule; none if the settings switch it off."""
    if settings.gc.schedule == "off":
        return []
    return [
        dg.ScheduleDefinition(
            name="collect_garbage_nightly",
            job=job,
            cron_schedule="0 3 * * *",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Collects garbage at 3 o'clock UTC; `gc.schedule: off` in the settings removes it.",
        )
    ]
