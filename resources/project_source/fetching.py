"""One `git fetch` at a time per mirror, by a process of its own that a caller waits for as long as it likes.

A sensor's tick ends after a minute, and a first clone can take an hour: the fetch goes on, and a later tick finds it
done. The lock of the mirror is held by Git itself, so it is free when no fetch runs, whichever process had started it.
"""

import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from llmops_assets.domain.formatting import time_span
from llmops_assets.machine.locks import is_locked, take_now
from resources.project_source.errors import SourceError
from resources.project_source.git import GitError, environment

LOOK_EVERY_S = 0.05
SAY_EVERY_S = 5.0
_TIMED_OUT = 124
"""Exit code of `timeout`."""


class StillFetching(SourceError):
    """The fetch takes longer than the caller waits. It goes on."""


class Fetching:
    """The fetches of one mirror.

    Args:
        mirror: folder of the bare repository.
        limit_s: how long one fetch may take.
    """

    def __init__(self, mirror: Path, limit_s: float):
        self._mirror, self._limit_s = mirror, limit_s
        self._lock = mirror.parent / f"{mirror.name}.lock"
        self._log = mirror.parent / f"{mirror.name}.fetch.log"

    def run(
        self,
        prepare: Callable[[], None],
        arguments: tuple[str, ...],
        credentials: Mapping[str, str],
        patience_s: float | None,
        on_progress: Callable[[str], None] | None,
    ) -> None:
        """Fetches, or waits for the fetch that runs.

        Args:
            prepare: called with the lock held, before Git starts.
            arguments: of git.
            credentials: variables in which Git finds them.
            patience_s: how long to wait; None: to the end.
            on_progress: told how far the fetch is, every few seconds.

        Raises:
            StillFetching: it takes longer than `patience_s`.
            GitError: it failed, or reached its time limit.
        """
        waiter = _Waiter(self, patience_s, on_progress)
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a+") as lock:
            while not take_now(lock.fileno()):
                waiter.wait()
            lock.truncate(0)
            lock.write(str(time.time()))
            lock.flush()
            prepare()
            process = self._start(arguments, credentials, lock.fileno())
        ended = os.pidfd_open(process.pid)
        try:
            while process.poll() is None:
                waiter.wait(ended)
        finally:
            os.close(ended)
        if process.returncode == _TIMED_OUT:
            raise GitError(f"git fetch did not end within {time_span(self._limit_s)} (fetch_timeout in the settings)")
        if process.returncode:
            raise GitError("git fetch failed", self._log.read_text(errors="replace").strip())

    def _start(
        self, arguments: tuple[str, ...], credentials: Mapping[str, str], held: int
    ) -> "subprocess.Popen[bytes]":
        # `timeout` ends Git even if this process is gone by then, and starts in a millisecond.
        command = ["timeout", "--kill-after=5", f"{self._limit_s:g}", "git", *arguments]
        try:
            with self._log.open("wb") as log:
                return subprocess.Popen(
                    command,
                    cwd=self._mirror,
                    env={**environment(), **credentials},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(held,),
                )
        except FileNotFoundError as error:
            raise SourceError("timeout, of the GNU coreutils: not found; install it and try again") from error

    @property
    def running(self) -> bool:
        return is_locked(self._lock)

    def progress(self) -> str:
        """How far the running fetch is: its time, and Git's own last line."""
        try:
            began = float(self._lock.read_text())
            lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        except (OSError, ValueError):
            return "just started"
        return ", ".join([f"{time_span(max(1.0, time.time() - began))} so far", *lines[-1:]])


class _Waiter:
    """Waits in small steps, tells progress, and gives up when the caller's patience is over."""

    def __init__(self, fetching: Fetching, patience_s: float | None, on_progress: Callable[[str], None] | None):
        self._fetching, self._on_progress = fetching, on_progress
        now = time.monotonic()
        self._until = now + patience_s if patience_s is not None else float("inf")
        self._say_at = now + SAY_EVERY_S

    def wait(self, ended: int | None = None) -> None:
        """One step: until the process of this descriptor has ended, if there is one, else for a moment."""
        now = time.monotonic()
        if now >= self._until:
            raise StillFetching(f"git fetch goes on in the background ({self._fetching.progress()})")
        if self._on_progress is not None and now >= self._say_at:
            self._say_at = now + SAY_EVERY_S
            self._on_progress(f"git fetch: {self._fetching.progress()}")
        if ended is None:
            time.sleep(LOOK_EVERY_S)
        else:
            select.select([ended], [], [], max(LOOK_EVERY_S, min(0.5, self._until - now)))
