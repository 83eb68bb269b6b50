"""Serving where there is none: profile `cluster` has no way yet to serve on Kubernetes.

The local serving in a step's pod would be healthy, be noted as production, and end with the pod a moment later. So
what would deploy is refused, and what only asks is told that nothing is there.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from llmops_assets.domain.records import Release
from resources.serving.interface import Endpoint, Serving, ServingError, Traffic

REFUSAL = (
    "profile cluster cannot serve yet: an engine would end with the pod of its step. The release is evaluated and "
    "registered; serve it from a location of profile local that has the same ledger and store"
)


class NoServing(Serving):
    """Nothing is deployed, and nothing can be."""

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

    def traffic(self, project: str, environment: str, release_digest: str) -> Traffic:
        return Traffic(requests=0, errors=0, broken=0, active=0)

    def stopped(self) -> bool:
        return True

    def ensure_running(self) -> tuple[str, ...]:
        return ()

    def down(self, forget: bool = False) -> None:
        return None
