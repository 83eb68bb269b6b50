"""Looks at the remotes of all projects, each beside the others and beside the ticks that ask.

A sensor's tick needs the state of one remote. Dagster evaluates ticks one after another, so a tick that waits for its
remote delays those of all other projects: 100 remotes that answer in 200 ms would take 40 s, and one that hangs would
stop them all. So the first tick that needs a new look begins those of the other projects too, and a project's sensors
share one.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from resources.project_source.errors import SourceError

Clock = Callable[[], float]
AT_ONCE = 32
"""Looks that may be young at the same time. Each is a process, or two."""
YOUNG_S = 2.0
"""A look that takes longer waits for its remote, and costs nothing: others begin beside it."""


class StillLooking(SourceError):
    """The remote has not answered for as long as the caller waits. The look goes on."""


class Gate:
    """Lets only so many looks begin at once; those that hang do not count."""

    def __init__(self, most: int = AT_ONCE, young_s: float = YOUNG_S, clock: Clock = time.monotonic):
        self._most, self._young_s, self._clock = most, young_s, clock
        self._began: dict[object, float] = {}
        self._changed = threading.Condition()

    @contextmanager
    def place(self) -> Iterator[None]:
        me = object()
        with self._changed:
            while (wait_s := self._full_for()) > 0:
                self._changed.wait(wait_s)
            self._began[me] = self._clock()
        try:
            yield
        finally:
            with self._changed:
                del self._began[me]
                self._changed.notify()

    def _full_for(self) -> float:
        """Seconds until the next place is free if no look ends before."""
        now = self._clock()
        young = sorted(began for began in self._began.values() if now - began < self._young_s)
        return young[-self._most] + self._young_s - now if len(young) >= self._most else 0.0


class _Look:
    """One look: begun, and perhaps ended with or without an error."""

    def __init__(self, began: float):
        self.began = began
        self.error: Exception | None = None
        self.ended = threading.Event()
        self.seen_by = set[str]()
        self.awaited_by = set[str]()
        """Whose patience was over before it ended: they take it later, however old it is by then."""


class RemoteLooks:
    """The looks at one project's remote; one at a time.

    Args:
        update: brings the mirror to the remote's state; raises SourceError.
        state: what a running update is doing, as text.
        shared_for_s: how old a look may be, in seconds, that another sensor has asked for. No sensor uses a look twice.
        patience_s: how long a tick waits for a look, from the look's beginning on.
    """

    def __init__(
        self,
        update: Callable[[], None],
        state: Callable[[], str],
        *,
        shared_for_s: float,
        patience_s: float,
        gate: Gate,
        clock: Clock = time.monotonic,
    ):
        self._update, self._state, self._gate, self._clock = update, state, gate, clock
        self._shared_for_s, self._patience_s = shared_for_s, patience_s
        self._newest: _Look | None = None
        self._slow = False
        """Whether the last look took longer than a tick waits: then no tick waits for the next one either."""
        self._readers = set[str]()
        self._lock = threading.Lock()

    def current(
        self,
        reader: str,
        patience_s: float | None = None,
        on_new: Callable[[], None] = lambda: None,
        fresh: bool = False,
    ) -> None:
        """Waits until the mirror has the remote's state.

        Args:
            reader: the sensor that asks; each look serves it once.
            patience_s: instead of the usual one.
            on_new: called if a look had to be begun, before it is waited for.
            fresh: whether it has to be a look that begins now: an earlier one may have seen the remote as it was
                before a push that the caller knows of.

        Raises:
            StillLooking: the remote has not answered yet; the look goes on, and serves this reader's next call.
            SourceError: the remote cannot be reached, or is not a repository.
        """
        earlier = self._newest if fresh else None
        if earlier is not None and not earlier.ended.wait(self._patience_s if patience_s is None else patience_s):
            raise StillLooking(self._state())
        with self._lock:
            look, new = self._newest, False
            if look is None or (fresh and look.ended.is_set()) or not self._serves(look, reader):
                look, new = self._begin(), True
            self._readers.add(reader)
            if patience_s is None:
                patience_s = 0.0 if self._slow else self._patience_s
            until = look.began + patience_s
        if new:
            on_new()
        if not look.ended.wait(max(0.0, until - self._clock())):
            look.awaited_by.add(reader)
            self._slow = True
            raise StillLooking(self._state())
        look.seen_by.add(reader)
        if look.error is not None:
            raise look.error

    def _serves(self, look: _Look, reader: str) -> bool:
        if not look.ended.is_set():
            return True  # one at a time
        fresh = self._clock() - look.began <= self._shared_for_s or reader in look.awaited_by
        return fresh and reader not in look.seen_by

    def begin_if_due(self) -> None:
        """Begins a look if one will be asked for: there was none, or the last one is too old, or has served all."""
        if self._shared_for_s <= 0:
            return
        with self._lock:
            look = self._newest
            if look is None or (look.ended.is_set() and self._readers and self._used_up(look)):
                self._begin()

    def _used_up(self, look: _Look) -> bool:
        return look.seen_by >= self._readers or self._clock() - look.began > self._shared_for_s

    def _begin(self) -> _Look:
        look = self._newest = _Look(self._clock())
        threading.Thread(target=self._work, args=(look,), daemon=True).start()
        return look

    def _work(self, look: _Look) -> None:
        try:
            with self._gate.place():
                self._update()
        except Exception as error:  # it is raised where somebody waits for it
            look.error = error
        finally:
            self._slow = self._clock() - look.began > self._patience_s
            look.ended.set()
