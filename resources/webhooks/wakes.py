"""Has a project's sensors look at its branch soon after a delivery: many deliveries at once lead to one look.

Each project has a thread of its own, so a hanging remote delays no other project. While a commit cannot run yet, for it
waits for another run or for its data, the branch is looked at again, less and less often, until the poll takes over.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

log = logging.getLogger("llmops.webhooks")

SPACING_S = 1.0
"""The shortest time between two looks at one project, whatever number of deliveries arrive."""
FIRST_AGAIN_S, LAST_AGAIN_S = 2.0, 60.0
"""When a branch whose newest commit waits is looked at again: after 2 s, then twice as long each time, up to 60 s."""
AT_ONCE = 8
"""The most projects that are looked at at the same time."""


@dataclass(frozen=True)
class Looked:
    """What a look led to."""

    said: str
    waits: bool = False
    """Whether the branch's newest commit still has to be dealt with, and only later can be."""


class Wakes:
    """Calls `look` for the projects that were woken.

    Args:
        look: has the sensors of a project look at its branch. Errors are logged, and it is tried again.
        poll_s: after how many seconds the daemon looks anyway.
        spacing_s: the shortest time between two looks at one project.
    """

    def __init__(
        self,
        look: Callable[[str], Looked],
        poll_s: float,
        spacing_s: float = SPACING_S,
        first_again_s: float = FIRST_AGAIN_S,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._look, self._poll_s, self._spacing_s = look, poll_s, spacing_s
        self._first_again_s, self._clock = first_again_s, clock
        self._asked: dict[str, threading.Event] = {}
        self._lock, self._free = threading.Lock(), threading.Semaphore(AT_ONCE)

    def wake(self, projects: Iterable[str]) -> None:
        """Returns at once."""
        for project in projects:
            with self._lock:
                asked = self._asked.get(project)
                if asked is None:
                    asked = self._asked[project] = threading.Event()
                    threading.Thread(target=self._loop, args=(project, asked), name=project, daemon=True).start()
            asked.set()

    def _loop(self, project: str, asked: threading.Event) -> None:
        again_s: float | None = None
        while True:
            by_delivery = asked.wait(again_s)
            asked.clear()  # before the look: what arrives during it has another one follow
            began = self._clock()
            found = self._safely(project)
            log.info("%s: %s", project, found.said)
            again_s = self._after(found, None if by_delivery else again_s)
            time.sleep(max(0.0, self._spacing_s - (self._clock() - began)))

    def _after(self, found: Looked, waited_s: float | None) -> float | None:
        """When to look again, in seconds; None: only if asked."""
        if not found.waits:
            return None
        next_s = self._first_again_s if waited_s is None else min(2 * waited_s, LAST_AGAIN_S)
        return next_s if next_s < self._poll_s else None

    def _safely(self, project: str) -> Looked:
        try:
            with self._free:
                return self._look(project)
        except Exception as error:  # whatever Dagster raises while its code server or database is away
            log.error("%s could not be looked at: %s: %s", project, type(error).__name__, error)
            return Looked("it is tried again", waits=True)
