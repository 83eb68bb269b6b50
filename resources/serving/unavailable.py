"""The serving client of profile `cluster`, which cannot serve on Kubernetes yet.

Local serving in a step's pod would become healthy, be recorded as production, and end with the pod a moment later. So
deployments are refused, and queries return that nothing is deployed.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from llmops_assets.domain.records import Release
from resources.serving.interface import Endpoint, NoUserTraffic, Serving, ServingError, Traffic, UserTraffic

REFUSAL = (
    "profile cluster cannot serve yet: an engine would end with the pod of its step. The release is evaluated and "
    "registered; serve it from a location with profile local on the same ledger and store"
)


class NoServing(Serving):
    """A `Serving` without deployments that refuses to deploy."""

    def deploy(
        self,
        project: str,
        environment: str,
        release: Release,
        model_file: Path,
        on_wait: Callable[[str], None] | None = None,
        sha256: str = "",
    ) -> None:
        raise ServingError(REFUSAL)

    def route(self, project: str, environment: str, weights: Mapping[str, float]) -> None:
        if weights:
            raise ServingError(REFUSAL)

    def retire(self, project: str, environment: str, release_digest: str, drain_s: float) -> None:
        return None

    def weights(self, project: str, environment: str) -> dict[str, float]:
        return {}

    def deployed(self, project: str, environment: str) -> tuple[str, ...]:
        return ()

    def endpoints(self, project: str | None = None) -> list[Endpoint]:
        return []

    def base_url(self, project: str, environment: str) -> str:
        raise ServingError(REFUSAL)

    def candidate_headers(self, release_digest: str) -> dict[str, str]:
        return {}

    def own_headers(self) -> dict[str, str]:
        return {}

    def traffic(self, project: str, environment: str, release_digest: str) -> Traffic:
        return Traffic(requests=0, errors=0, broken=0, active=0)

    def port_problem(self) -> str | None:
        return None

    def watch_users(self, project: str, environment: str, since: float | None = None) -> UserTraffic:
        return NoUserTraffic()

    def stopped(self) -> bool:
        return True

    def ensure_running(self) -> tuple[str, ...]:
        return ()

    def down(self, forget: bool = False) -> None:
        return None
