"""Triggers that are no commit: schedules, and data that has become old. Both are off unless the settings name them.

They stand in the settings and not in llmops.yaml: they use the operator's machines without anybody's push, and a commit
that could order runs of itself would need a limit of its own.
"""

from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from llmops_assets.domain.models import Strict


class Schedule(Strict):
    """When a stage of the newest released commit is made again, with everything that depends on its result."""

    cron: str = Field(
        description="Minute, hour, day of month, month, day of week: 0 3 * * 1 is every Monday at 3 o'clock."
    )
    timezone: str = Field(default="UTC", description="IANA name of the time zone, such as Europe/Berlin.")
    rebuild: Literal[
        "ci_report", "dataset_version", "fine_tuned_checkpoint", "evaluation_report", "served_evaluation_report"
    ] = Field(
        default="evaluation_report",
        description="The stage that is made again though its inputs are the same. If its result is the same too, "
        "nothing else runs.",
    )

    @field_validator("cron")
    @classmethod
    def _is_a_schedule(cls, value: str) -> str:
        from dagster._utils.schedules import is_valid_cron_schedule  # 2 s, so only if there is a schedule

        if len(value.split()) != 5 or not is_valid_cron_schedule(value):
            raise ValueError(f"{value!r} is no cron schedule; write five fields, such as '0 3 * * 1'")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{value!r} is no time zone; write an IANA name, such as Europe/Berlin") from None
        return value
