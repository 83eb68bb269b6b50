"""A live Dagster for each file of chain tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from llmops_assets.config.compute import ComputeSettings
from tests.support.live import Live
from tests.support.projects import LIGHT, Project, merge


@pytest.fixture(scope="module")
def start_live(
    make_project: Callable[[], Project], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Live]]:
    """Starts a live Dagster on a project with a light evaluation; `variables` go into its services' environment.

    `change` is merged into the project's llmops.yaml. With `alone`, no process of it is shared with other tests.
    """
    with ExitStack() as stack:

        def start(change: dict[str, Any] | None = None, alone: bool = False, **variables: str) -> Live:
            project = make_project()
            project.configure(merge(LIGHT, change or {}))
            project.commit("As this story needs it")
            compute = ComputeSettings(threads=2, checkpoint_every=0.3)
            pauses = {"retry_pauses": (0.0, 1.0)}  # every second of a live home costs half a second of CPU time
            live = Live(tmp_path_factory.mktemp("live"), project, alone=alone, compute=compute, poll=2, **pauses)
            return stack.enter_context(live.running(**variables))

        yield start
