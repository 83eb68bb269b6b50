"""Waiting for other processes: always for a condition, with one timeout that even a busy machine does not reach."""

from collections.abc import Callable
from typing import TypeVar

from llmops_assets.machine import processes

T = TypeVar("T")
CEILING_S = 600.0
"""Longer than any wait takes: a machine ten times slower than usual still stays below it. Beyond it the test fails."""


def wait_for(what: str, look: Callable[[], T | None], every_s: float = 0.1) -> T:
    """Polls `look` until it returns a true value, and returns that value.

    Args:
        every_s: between two looks. One that opens databases costs 10 to 20 ms of CPU time, and waits may take minutes.

    Raises:
        AssertionError: no true value within `CEILING_S`; the message names `what`.
    """
    found: list[T] = []

    def came() -> bool:
        if value := look():
            found.append(value)
        return bool(found)

    if not processes.wait_for(came, CEILING_S, every_s):
        raise AssertionError(f"{what} did not come within {CEILING_S:g} s")
    return found[0]
