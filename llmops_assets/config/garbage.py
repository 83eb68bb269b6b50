"""Settings of garbage collection."""

from typing import Literal

from pydantic import Field

from llmops_assets.domain.garbage import DAY_S, Keep
from llmops_assets.domain.rollout import Duration


class GarbageSettings(Keep):
    """What garbage collection keeps, and when it runs."""

    schedule: Literal["daily", "off"] = Field(
        default="daily", description="daily: the daemon collects every night at 3. off: only `llmops gc` does."
    )
    grace: Duration = Field(
        default=DAY_S,
        ge=3600.0,
        description="How long an artifact, work tree or cached file stays after its last use by any process: 1d.",
    )
    keep_logs: Duration = Field(
        default=30 * DAY_S,
        ge=3600.0,
        description="How long logs, the folders of ended programs, and delivered notifications are kept: 30d.",
    )
    keep_lineage: Duration = Field(
        default=365 * DAY_S,
        ge=3600.0,
        description="How long the ledger keeps which results an old revision used, for `llmops trace`: 365d. The audit "
        "trail, decisions and releases are kept forever.",
    )
