"""What a model registry does. Implementations stand beside it, and in the catalog."""

from collections.abc import Mapping
from typing import Protocol

CHECKPOINT_TAG = "llmops.checkpoint"
"""The tag by which a version is found again: the digest of its checkpoint."""
CHAMPION = "champion"
"""The alias of the version that production serves."""


class ModelRegistry(Protocol):
    """Every call may be repeated: a version exists once per checkpoint digest."""

    def register(self, name: str, source: str, run_id: str | None, tags: Mapping[str, str], note: str = "") -> int:
        """The version of a checkpoint digest: the one that exists, or a new one. `tags` must hold CHECKPOINT_TAG."""

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Moves an alias to a version."""

    def model_url(self, name: str, version: int) -> str | None:
        """The version's page, if its address is known."""
