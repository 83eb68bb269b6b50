"""Runs work beside its caller, which waits for it only so long: a slow or hanging service delays nothing else."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class StillRunning(Exception):
    """The work has not ended yet; it continues."""

    def __init__(self, since_s: float):
        super().__init__(f"not done after {since_s:.0f} s")


class Background(Generic[T]):
    """One piece of work at a time, in a daemon thread: the end of the process does not wait for it.

    Args:
        patience_s: how long the call that starts the work waits for its result; later calls only look.
    """

    def __init__(self, patience_s: float, clock: Callable[[], float] = time.monotonic):
        self._patience_s, self._clock = patience_s, clock
        self._thread: threading.Thread | None = None
        self._began = 0.0
        self._result: list[T] = []
        self._error: BaseException | None = None

    def __call__(self, work: Callable[[], T]) -> T:
        """The result of the work, or of an earlier call's work that has ended since.

        Raises:
            StillRunning: it takes longer than that. It continues, and a later call returns its result.
            Exception: whatever the work raised.
        """
        wait_s = 0.0  # for what an earlier call has waited for already
        if self._thread is None:
            wait_s = self._patience_s
            self._result, self._error, self._began = [], None, self._clock()
            self._thread = threading.Thread(target=self._work, args=(work,), daemon=True)
            self._thread.start()
        self._thread.join(wait_s)
        if self._thread.is_alive():
            raise StillRunning(self._clock() - self._began)
        self._thread = None
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _work(self, work: Callable[[], T]) -> None:
        try:
            self._result.append(work())
        except BaseException as error:
            self._error = error
