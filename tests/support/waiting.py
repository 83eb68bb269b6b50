"""Waiting for other processes: always for a condition, with one timeout that even a busy machine does not reach."""

from collections.abc import Callable
from typing import TypeVar

from llmops_assets.machine import processes

T = TypeVar("T")
CEILING_S = 600.0
"""Longer than any wait takes: a machine ten times slower than usual still stays below it. Beyond it the test fails."""


def wait_for(what: str, look: Callable[[], T | None]) -> T:
    """Polls `look` until it returns a true value, and returns that value.

    Raises:
        AssertionError: no true value within `CEILING_S`; the message names `what`.
    """
    found: list[T] = []

    def came() -> bool:
        if value := look():
            found.append(value)
        return bool(found)

    if not processes.wait_for(came, CEILING_S):
        raise AssertionError(f"{what} did not come within {CEILING_S:g} s")
    return found[0]
