"""One MLflow server or database: its client, opened on first use, and the address of its pages."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmops_assets.machine.locks import alone

VIEW = "?workflowType=machine_learning"
"""Else MLflow takes an experiment for one of traces, and opens it on an empty page and calls its runs evaluations."""


class MlflowServer:
    """Constructing it does no I/O and imports no MLflow."""

    def __init__(self, uri: str, ui: Callable[[], str | None] = lambda: None):
        """`ui` tells the address of MLflow's pages, if there are any: asked when a link is made."""
        self.uri, self._ui = uri, ui
        self._client: Any = None

    @property
    def ui(self) -> str | None:
        """What was told, else the server itself; never with the password that its address may hold."""
        server = self.uri.startswith(("http://", "https://"))
        return self._ui() or (re.sub(r"//[^@/]*@", "//", self.uri).rstrip("/") if server else None)

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
        """The file that MLflow keeps everything in, if it is on SQLite."""
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:///") else None

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """The first to open MLflow's database makes its tables; two at once break it."""
        if self.database is None:
            yield
        else:
            with alone(self.database.with_name(f"{self.database.name}.lock")):
                yield
