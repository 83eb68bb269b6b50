"""What a code host shows of deployments: which release staging and production serve. Pure."""

from collections.abc import Mapping
from typing import Literal

from llmops_assets.domain.answers import HEADLINE
from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.notifications import Rolled


class DeploymentAnswer(Frozen):
    """A release that an environment serves, or that is rolled out to it."""

    project: str
    revision: str
    environment: str
    identity: str
    """Of the ledger's row that shows it: the host keeps it, to find the deployment again."""
    state: Literal["in_progress", "success", "failure"]
    headline: str
    url: str | None = None

    @property
    def name(self) -> str:
        """The environment's name on the host: several projects may be in one repository."""
        return f"{self.project}-{self.environment}"

    @property
    def context(self) -> str:
        return f"the deployment of {short(self.revision)} to {self.environment}"

    @property
    def subject(self) -> str:
        return f"deployment/{self.identity}"

    @property
    def digest(self) -> str:
        return digest(self.model_dump(mode="json"))


_ROLLED: Mapping[str, Literal["in_progress", "success", "failure"]] = {
    "running": "in_progress", "promoted": "success", "returned": "failure",
}  # fmt: skip


def rollout_answer(project: str, rolled: Rolled, url: str | None = None) -> DeploymentAnswer:
    """The deployment of a rollout to production."""
    state = rolled.state
    said = {
        "running": f"release {short(state.release)}: canary, {state.weight:.0%} of the traffic",
        "promoted": f"release {short(state.release)} serves all traffic",
        "returned": f"release {short(state.release)} was returned: {'; '.join(state.reasons)}",
    }[state.status]
    return DeploymentAnswer(
        project=project,
        revision=rolled.revision,
        environment="production",
        identity=f"rollout-{rolled.id}",
        state=_ROLLED[state.status],
        headline=excerpt(said, HEADLINE),
        url=url,
    )


def staging_answer(project: str, revision: str, release: str, serving: int, url: str | None = None) -> DeploymentAnswer:
    """The deployment of a release that staging has served.

    Args:
        serving: id of its row in the ledger.
    """
    return DeploymentAnswer(
        project=project,
        revision=revision,
        environment="staging",
        identity=f"serving-{serving}",
        state="success",
        headline=f"release {short(release)} serves staging",
        url=url,
    )
