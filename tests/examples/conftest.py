"""Adds the example's folder to the path: its scripts are not part of a package."""

import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "docstring-summarizer"
sys.path.insert(0, str(EXAMPLE))


@pytest.fixture(scope="session")
def example() -> Path:
    return EXAMPLE
