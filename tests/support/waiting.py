"""Waiting for what other processes do: always for a condition, with one ceiling that a busy machine does not reach."""

from collections.abc import Callable
from typing import TypeVar

from llmops_assets.machine import processes

T = TypeVar("T")
CEILING_S = 600.0
"""Nothing takes so long: who waits in vain fails here. A machine that is ten times slower than usual stays below it."""


def wait_for(what: str, look: Callable[[], T | None]) -> T:
    """What `look` yields, as soon as it yields something true.

    Raises:
        AssertionError: it did not; says what was waited for.
    """
    found: list[T] = []

    def came() -> bool:
        if value := look():
            found.append(value)
        return bool(found)

    if not processes.wait_for(came, CEILING_S):
        raise AssertionError(f"{what} did not come within {CEILING_S:g} s")
    return found[0]
