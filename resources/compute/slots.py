"""The slot for heavy programs, and locks that are looked at without being taken."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_progress is not None and time.monotonic() >= say_at:
                    say_at = time.monotonic() + SAY_EVERY_S
                    on_progress({"phase": "wait", "message": "for the heavy program that runs now: one at a time"})
                time.sleep(poll_s)
                continue
            yield lock.fileno()
            return
    yield None


def locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: concurrent checks do not see each other
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
