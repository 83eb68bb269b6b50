"""The interface of serving, with its data types and errors. Implementations belong in the other modules."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from llmops_assets.domain.canary_evidence import UserRequest
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import Release

RELEASE_HEADER = "x-llmops-release"
"""In an answer: the digest of the release that gave it."""
CANDIDATE_HEADER = "x-llmops-candidate"
"""In our own requests: a token that nobody else can guess. It addresses one release, whether promoted or not."""


class Endpoint(Frozen):
    """A deployed release, its address and its health."""

    project: str
    environment: str
    base_url: str
    model: str
    release: str
    status: Literal["serving", "degraded", "down", "candidate"] = Field(
        description="candidate: healthy, but another release has more traffic, or it has none."
    )


class Traffic(Frozen):
    """The gateway's counters for one release since the gateway started."""

    requests: int = Field(description="Requests answered, by the engine or by the gateway for it.")
    errors: int = Field(description="Status 5xx.")
    broken: int = Field(description="Requests that the engine dropped, during the answer or before it (then a 503).")
    active: int = Field(description="Requests in progress now.")


class UserTraffic(Protocol):
    """The requests of an environment's users since this was made, as the gateway recorded them. Not those that named
    a release: probes, smoke tests."""

    def by_release(self) -> Mapping[str, Sequence[UserRequest]]:
        """Release → its requests that have ended; if there are very many, the newest."""

    def newer(self) -> Iterable[tuple[str, UserRequest]]:
        """(release, request) for each that has ended since the last call; then `by_release` does not have it."""


class NoUserTraffic(UserTraffic):
    """For servings that record no requests."""

    def by_release(self) -> Mapping[str, Sequence[UserRequest]]:
        return {}

    def newer(self) -> Iterable[tuple[str, UserRequest]]:
        return ()


class Serving(Protocol):
    """Endpoints of all projects. Every call is idempotent: it can be repeated, also after an interruption."""

    def deploy(
        self,
        project: str,
        environment: str,
        release: Release,
        model_file: Path,
        on_wait: Callable[[str], None] | None = None,
        sha256: str = "",
    ) -> None:
        """Ensures a healthy engine for this release, without traffic. Blocks until it is healthy.

        Args:
            sha256: of the weights. At every start, including restarts, the engine loads only weights with this digest;
                "" disables the check.

        Raises:
            ServingError: it cannot start; the message has the end of its log.
        """

    def route(self, project: str, environment: str, weights: Mapping[str, float]) -> None:
        """Splits an environment's traffic among deployed releases, atomically; {} stops its traffic.

        Raises:
            ServingError: the weights do not sum to 1, a release is not deployed, or the gateway rejected them.
        """

    def retire(self, project: str, environment: str, release_digest: str, drain_s: float) -> None:
        """Stops a release without traffic after its last request is answered, or after `drain_s` seconds.

        Raises:
            ServingError: it has traffic.
        """

    def weights(self, project: str, environment: str) -> dict[str, float]:
        """Release → weight, for releases with traffic."""

    def deployed(self, project: str, environment: str) -> tuple[str, ...]:
        """The digests of all releases with an engine, oldest first."""

    def endpoints(self, project: str | None = None) -> list[Endpoint]:
        """All deployed releases; the main one of each environment first."""

    def base_url(self, project: str, environment: str) -> str:
        """The environment's stable address, ending in /v1."""

    def candidate_headers(self, release_digest: str) -> dict[str, str]:
        """Headers that route a request to exactly this release, regardless of weights; it needs no API key."""

    def own_headers(self) -> dict[str, str]:
        """Headers with which our own request is routed like a user's, but needs no API key."""

    def traffic(self, project: str, environment: str, release_digest: str) -> Traffic:
        """The gateway's counters for this release."""

    def port_problem(self) -> str | None:
        """Why no release could be served here now, before one is made: its address is taken. None if it is not."""

    def watch_users(self, project: str, environment: str, since: float | None = None) -> UserTraffic:
        """Begins to record what the environment's users get, from now on or from an earlier time.

        Args:
            since: in epoch seconds; the gateway's records reach back as far as they were kept.
        """

    def stopped(self) -> bool:
        """Whether serving was stopped on purpose, without a deployment since."""

    def ensure_running(self) -> tuple[str, ...]:
        """Starts everything that should run but does not; returns the names of what was started."""

    def down(self, forget: bool = False) -> None:
        """Stops every process; `forget` also deletes the deployments, so that nothing is restored later."""


class ServingError(Exception):
    """A serving operation failed; the message says why and what to do."""
