"""The interface of a model registry. Implementations are in this package and listed in the catalog."""

from collections.abc import Mapping
from typing import Protocol

CHECKPOINT_TAG = "llmops.checkpoint"
"""The tag that identifies a version: the digest of its checkpoint."""
CHAMPION = "champion"
"""The alias of the version that production serves."""
STAGING = "staging"
"""The alias of the version that staging serves."""


class ModelRegistry(Protocol):
    """A model registry. Every call is idempotent: there is one version per checkpoint digest."""

    def register(self, name: str, source: str, run_id: str | None, tags: Mapping[str, str], note: str = "") -> int:
        """Returns the version of a checkpoint digest, creating it if necessary. `tags` must contain CHECKPOINT_TAG."""

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Moves an alias to a version."""

    def tags(self, name: str, version: int) -> dict[str, str]:
        """A version's tags."""

    def tag(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Sets tags of a version; others stay."""

    def model_url(self, name: str, version: int) -> str | None:
        """The version's page in the UI, if its address is known."""
