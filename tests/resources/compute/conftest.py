"""A compute, a project and threads that submit."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resources.compute.local import LocalCompute
from tests.resources.compute.jobs import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree")


@pytest.fixture
def compute(tmp_path: Path) -> Iterator[LocalCompute]:
    compute = LocalCompute(tmp_path / "home", threads=1, poll_s=0.02)
    yield compute
    compute.cancel_all()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool
