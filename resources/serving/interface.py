"""What serving is to everyone else: its interface, and what it says of endpoints. No implementation belongs here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import Release

RELEASE_HEADER = "x-llmops-release"
"""In an answer: the digest of the release that gave it. In a request: the release that is to answer."""


class Endpoint(Frozen):
    """A release that can be reached, and how it is."""

    project: str
    environment: str
    base_url: str
    model: str
    release: str
    status: Literal["serving", "degraded", "down", "candidate"] = Field(
        description="candidate: healthy, but it has a smaller share of the traffic than another, or none."
    )


class Traffic(Frozen):
    """What the gateway counted for one release since the gateway started."""

    requests: int = Field(description="Requests that were answered, by the engine or for it.")
    errors: int = Field(description="Status 5xx.")
    broken: int = Field(
        description="Requests that the engine dropped: in the middle of its answer, or before it (a 503 then)."
    )
    active: int = Field(description="Under way now.")


class Serving(Protocol):
    """Endpoints of all projects. Every call converges: made twice, or cut off and made again, it does no harm."""

    def deploy(
        self,
        project: str,
        environment: str,
        release: Release,
        model_file: Path,
        on_wait: Callable[[str], None] | None = None,
        sha256: str = "",
    ) -> None:
        """Has a healthy engine for this release; sends it no traffic. Blocks until it is healthy.

        Args:
            sha256: of the weights. Whenever the engine starts, now or after it died, it loads no others; "" is not
                looked at.

        Raises:
            ServingError: it cannot start; with the end of its log.
        """

    def route(self, project: str, environment: str, weights: Mapping[str, float]) -> None:
        """Shares an environment's traffic among deployed releases, at once and as a whole; {} ends its traffic.

        Raises:
            ServingError: the shares do not sum to 1, a release is not deployed, or the gateway did not take them.
        """

    def retire(self, project: str, environment: str, release_digest: str, drain_s: float) -> None:
        """Ends a release without traffic once its last request is answered, or `drain_s` seconds have passed.

        Raises:
            ServingError: it has traffic.
        """

    def weights(self, project: str, environment: str) -> dict[str, float]:
        """The share of each release that has traffic."""

    def deployed(self, project: str, environment: str) -> tuple[str, ...]:
        """The digests of all releases that have an engine, oldest first."""

    def endpoints(self, project: str | None = None) -> list[Endpoint]:
        """Every release that is deployed; the main one of each environment first."""

    def base_url(self, project: str, environment: str) -> str:
        """The environment's stable address, ending in /v1."""

    def candidate_headers(self, release_digest: str) -> dict[str, str]:
        """Headers with which a request reaches exactly this release, whatever the weights."""

    def traffic(self, project: str, environment: str, release_digest: str) -> Traffic:
        """What the gateway counted for this release."""

    def stopped(self) -> bool:
        """Whether serving was ended on purpose and nothing was deployed since."""

    def ensure_running(self) -> tuple[str, ...]:
        """Starts whatever should run and does not; says what that was."""

    def down(self, forget: bool = False) -> None:
        """Ends every process; `forget` also drops what was deployed, so that nothing can come back."""


class ServingError(Exception):
    """Serving cannot do what was asked; the message says why and what helps."""
