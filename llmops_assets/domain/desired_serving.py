"""Decides from the ledger what an environment serves: its traffic, its engines, and which rollout is abandoned. Pure.

The ledger is written first, and traffic follows it: so whatever is cut off, what should be served is known. Releases,
active requests and rollouts are in the ledger; `llmops_assets.delivery.reconciliation` makes the rest agree with them.
"""

from collections.abc import Collection, Sequence
from typing import Literal

from pydantic import Field

from llmops_assets.domain.models import Frozen
from llmops_assets.domain.requests import Request
from llmops_assets.domain.rollout import RolloutState

Environment = Literal["production", "staging"]
ENVIRONMENTS: tuple[Environment, ...] = ("production", "staging")


class Desired(Frozen):
    """What one environment should serve now."""

    traffic: dict[str, float] = Field(description="Release -> share; empty: no release has traffic.")
    engine: str | None = Field(description="The release that needs an engine, also if it has no traffic now.")
    ends_others: bool = Field(
        description="Whether engines without a share end. Not while a request is active: its run may be starting one."
    )


def runs(rollout: RolloutState | None, active: Request | None) -> bool:
    """Whether a rollout is running: no active request of its own means that none is."""
    return bool(rollout and rollout.status == "running" and active and rollout.owner == active.owner)


def why_abandoned(rollout: RolloutState, requests: Sequence[Request]) -> str:
    """Why a rollout that nobody runs any more ended: what became of its request."""
    request = next((r for r in reversed(requests) if r.owner == rollout.owner), None)
    if request is None:
        return "it was interrupted"
    return f"its request is {request.status}" + (f": {request.detail}" if request.detail else "")


def desired_serving(
    serves: str | None,
    active: Request | None,
    rollout: RolloutState | None = None,
    deployed: Collection[str] = (),
) -> Desired:
    """What an environment should serve.

    Args:
        serves: the release that it serves according to the ledger.
        active: the project's active request.
        rollout: production's newest rollout; None for other environments.
        deployed: the releases that have an engine. The share of a candidate without one stays with the champion.
    """
    traffic = {serves: 1.0} if serves else {}
    if rollout and runs(rollout, active) and rollout.traffic and set(rollout.traffic) <= {*deployed, serves}:
        traffic = rollout.traffic
    return Desired(traffic=traffic, engine=serves, ends_others=active is None)
