"""All clients of one location, built from its settings. Constructing them does no I/O."""

from collections.abc import Callable
from functools import cache
from typing import Any

from llmops_assets.config.settings import ProjectSource, Settings
from resources.artifact_store.store import ArtifactStore
from resources.compute.local import LocalCompute
from resources.ledger import Ledger
from resources.project_source.revisions import ProjectRepository
from resources.serving.local.serving import LocalServing
from resources.serving.unavailable import NoServing
from resources.tracking.mlflow import Tracking


def build_resources(settings: Settings, **overrides: Any) -> dict[str, Any]:
    """The resources of the profile, by the names under which stages ask for them.

    Args:
        overrides: replacements by name: real implementations of the same small interfaces.

    Raises:
        TypeError: an override names no resource.
        ConfigError: a variable of the environment that the settings name is not set.
    """

    @cache
    def sources(project: ProjectSource) -> ProjectRepository:
        return ProjectRepository(project, settings)

    local = settings.profile == "local"
    made: dict[str, Any] = {
        "settings": settings,
        "ledger": Ledger(settings.ledger_url),
        "store": ArtifactStore(settings.store_url, settings.home / "store-cache"),
        "compute": LocalCompute(settings.home, settings.compute.threads, one_heavy=local),
        "serving": LocalServing(settings.home, settings.serving) if local else NoServing(),
        "tracking": Tracking(settings.mlflow_uri, lambda: settings.ui("mlflow")),
        "sources": sources,
    }
    if unknown := set(overrides) - set(made):
        raise TypeError(f"no such resource: {', '.join(sorted(unknown))} (known: {', '.join(made)})")
    return made | overrides


Sources = Callable[[ProjectSource], ProjectRepository]
