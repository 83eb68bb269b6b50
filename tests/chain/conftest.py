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

    `change` is merged into the project's llmops.yaml.
    """
    with ExitStack() as stack:

        def start(change: dict[str, Any] | None = None, **variables: str) -> Live:
            project = make_project()
            project.configure(merge(LIGHT, change or {}))
            project.commit("As this story needs it")
            compute = ComputeSettings(threads=2, checkpoint_every=0.3)
            live = Live(tmp_path_factory.mktemp("live"), project, compute=compute, poll=1)
            return stack.enter_context(live.running(**variables))

        yield start
