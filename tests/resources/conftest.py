"""Fixtures for the tests of resources: other Python processes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def python() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts Python processes, and kills those that still run after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *args: str, env: dict[str, str] | None = None) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", code, *args], env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
