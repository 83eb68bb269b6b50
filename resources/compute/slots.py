"""The slot for heavy programs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmops_assets.machine.locks import take_now
from resources.compute.interface import OnProgress

SAY_EVERY_S = 30.0


@contextmanager
def heavy_slot(
    slot: Path, settled: Callable[[], bool], poll_s: float, on_progress: OnProgress | None
) -> Iterator[int | None]:
    """The only slot for heavy programs: a descriptor of its lock, to be passed to the program's keeper.

    The kernel frees the slot when nobody holds the descriptor any more: when nothing of the program is left.

    Args:
        slot: the lock's file.
        settled: whether the program needs no slot any more, since it already runs or has its result; then None is
            given.
        poll_s: seconds between two looks.
        on_progress: told that it waits.
    """
    slot.parent.mkdir(parents=True, exist_ok=True)
    say_at = 0.0
    with slot.open("a") as lock:
        while not settled():
            if take_now(lock.fileno()):
                yield lock.fileno()
                return
            if on_progress is not None and time.monotonic() >= say_at:
                say_at = time.monotonic() + SAY_EVERY_S
                on_progress({"phase": "wait", "message": "for the heavy program that runs now: one at a time"})
            time.sleep(poll_s)
    yield None
