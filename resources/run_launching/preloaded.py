"""What the fork server of run workers imports once; `changed` tells whether this is no longer the code on disk."""

import importlib
from contextlib import suppress

from llmops_assets.domain.models import build_schemas
from llmops_assets.machine.loaded_code import watch_imports

MODULES = (
    "dagster._cli", "dagster._cli.api", "dagster._core.execution.api", "sqlalchemy.orm", "alembic.command",
    "mlflow.artifacts", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store",
    "llmops_assets.location",
)  # fmt: skip


def _load() -> None:
    for module in MODULES:
        with suppress(Exception):  # the worker imports it again, and its log has the error
            importlib.import_module(module)
    with suppress(Exception):
        build_schemas()


changed = watch_imports(_load)
