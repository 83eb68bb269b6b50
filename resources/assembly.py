"""All clients of one location, built from its settings. Constructing them does no I/O."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

from llmops_assets.catalog import COMPUTE, REGISTRIES, STORES, scheme_of
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from resources.artifact_store.store import ArtifactStore
from resources.compute.interface import Compute
from resources.ledger import Ledger
from resources.model_registry.interface import ModelRegistry
from resources.project_source.looks import Gate
from resources.project_source.revisions import ProjectRepository
from resources.serving.interface import Serving
from resources.serving.local.serving import LocalServing
from resources.serving.unavailable import NoServing
from resources.tracking.mlflow import Tracking


@dataclass(frozen=True)
class Clients:
    """The clients of stages, sensors, jobs and the command line."""

    settings: Settings
    ledger: Ledger
    store: ArtifactStore
    compute: Compute
    serving: Serving
    tracking: Tracking
    registry: ModelRegistry
    sources: Callable[[ProjectSource], ProjectRepository]
    """Project → its repository; the same object each time."""

    @classmethod
    def of(cls, resources: Any) -> "Clients":
        """The clients of a Dagster context's `resources`, typed."""
        return cls(**{name: getattr(resources, name) for name in RESOURCE_KEYS})

    def as_resources(self) -> dict[str, Any]:
        """The clients as Dagster resources, by name."""
        return {name: getattr(self, name) for name in RESOURCE_KEYS}


RESOURCE_KEYS: tuple[str, ...] = tuple(f.name for f in fields(Clients))


def build_clients(settings: Settings, **overrides: Any) -> Clients:
    """The clients of the profile.

    Args:
        overrides: replacements by name: real implementations of the same small interfaces.

    Raises:
        TypeError: an override names no client.
        ConfigError: an environment variable that the settings name is not set.
        UnavailablePart: a dependency of a part that the settings name is not installed.
    """

    gate = Gate()

    @cache
    def sources(project: ProjectSource) -> ProjectRepository:
        return ProjectRepository(project, settings, gate)

    local = settings.profile == "local"
    ledger: Ledger = overrides.get("ledger") or Ledger(settings.ledger_url)
    open_store = STORES[scheme_of(settings.store_url)].load()
    clients = Clients(
        settings=settings,
        ledger=ledger,
        store=open_store(settings.store_url, settings.home / "store-cache", ledger.artifact_digests, ledger.identity),
        compute=COMPUTE[settings.compute.backend].load().from_settings(settings),
        serving=LocalServing(settings.home, settings.serving) if local else NoServing(),
        tracking=Tracking(settings.mlflow_uri, lambda: settings.ui("mlflow")),
        registry=REGISTRIES[settings.registry].load().from_settings(settings),
        sources=sources,
    )
    if unknown := set(overrides) - set(RESOURCE_KEYS):
        raise TypeError(f"no such client: {', '.join(sorted(unknown))} (known: {', '.join(RESOURCE_KEYS)})")
    return replace(clients, **overrides)
