"""Triggers other than commits: schedules, old data, drift of users' requests. Each is off unless the settings name it.

They are in the settings and not in llmops.yaml: they use the operator's machines without a push, and a commit
that could order runs of itself would need a limit of its own.
"""

from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from llmops_assets.domain.models import Strict
from llmops_assets.domain.rollout import Duration

Rebuilt = Literal[
    "ci_report",
    "container_image",
    "dataset_version",
    "fine_tuned_checkpoint",
    "evaluation_report",
    "served_evaluation_report",
]


class Schedule(Strict):
    """When a stage of the newest released commit is made again, with everything that depends on its result."""

    cron: str = Field(
        description="Minute, hour, day of month, month, day of week: 0 3 * * 1 is every Monday at 3 o'clock."
    )
    timezone: str = Field(default="UTC", description="IANA name of the time zone, such as Europe/Berlin.")
    rebuild: Rebuilt = Field(
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


class Drift(Strict):
    """When users' requests count as other ones than those that production's test rows were chosen for."""

    above: float = Field(
        default=0.2,
        gt=0,
        description="Population stability index of the requests' sizes that is too high. 0.1 is usually called a small "
        "shift, 0.25 a large one.",
    )
    window: Duration = Field(
        default=86400.0,
        gt=0,
        description="Length of the reference, which begins when production first serves a model with these test rows; "
        "of the newest requests compared with it; and how long the index must stay above the limit: 24h.",
    )
    requests: int = Field(
        default=500, ge=200, le=100_000, description="Fewest requests to compare; a quiet endpoint's window is longer."
    )
    rebuild: Rebuilt | None = Field(
        default=None,
        description="The stage of the newest released commit that is then made again, as by a schedule. None: people "
        "are told, nothing runs.",
    )
