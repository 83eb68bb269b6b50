"""One MLflow server or database: its client, opened on first use, and the address of its UI."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmops_assets.domain.redaction import HIDDEN
from llmops_assets.machine.locks import alone
from llmops_assets.machine.redaction import redacted

VIEW = "?workflowType=machine_learning"
"""Without it, MLflow treats the experiment as one of traces: it opens an empty page and calls runs evaluations."""


class MlflowServer:
    """The MLflow client and UI address. The constructor does no I/O and imports no MLflow."""

    def __init__(self, uri: str, ui: Callable[[], str | None] = lambda: None):
        """`ui` returns the address of MLflow's UI, if there is one; it is called for each link."""
        self.uri, self._ui = uri, ui
        self._client: Any = None

    @property
    def ui(self) -> str | None:
        """The configured UI address, otherwise the server's, without its password."""
        server = self.uri.startswith(("http://", "https://"))
        return self._ui() or (redacted(self.uri).replace(f"{HIDDEN}@", "").rstrip("/") if server else None)

    @property
    def client(self) -> Any:
        if self._client is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            from mlflow import MlflowClient

            with self._one_at_a_time():
                self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        return self._client

    @property
    def database(self) -> Path | None:
        """MLflow's database file, if it uses SQLite."""
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:///") else None

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Serializes opening MLflow's database: the first process creates its tables; two at once corrupt it."""
        if self.database is None:
            yield
        else:
            with alone(self.database.with_name(f"{self.database.name}.lock")):
                yield
