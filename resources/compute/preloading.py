"""Forks programs from a process that has already imported their libraries: one CPU second to start instead of six.

Preloading is optional: if it fails for any reason, the program starts as a separate process and its log says why.
`ci` is never forked, so that a project's own tests stay isolated; `dataset` imports too little to benefit.
"""

import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from llmops_assets.machine.forked import Forked, ForkServers, NotForked, fork

PRELOADED = "llmops_assets.programs.runtime.preloaded"
PROGRAMS = frozenset({"train", "evaluate", "quantize", "served_evaluate"})


class Preloading:
    """The preloaded processes of one home."""

    def __init__(self, home: Path):
        self._servers = ForkServers(home / "preloaded", PRELOADED)

    @contextmanager
    def connection(self, program: str, environment: Mapping[str, str], log: Path) -> Iterator[socket.socket | None]:
        """A connection to the process that forks this program, open while the caller waits; None: do not preload."""
        found = None
        if program in PROGRAMS and sys.platform == "linux":  # on macOS, system libraries do not survive a fork
            try:
                found = self._servers.connect(environment)
            except NotForked as error:
                _say(log, error)
        try:
            yield found
        finally:
            if found is not None:
                found.close()

    def start(
        self,
        connection: socket.socket,
        module: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        log: int,
        held: Sequence[int],
        seconds: float | None,
        told: Path,
    ) -> Forked | None:
        """The forked program, which waits for `begin`; None: do not preload."""
        try:
            return fork(connection, module, arguments, folder, environment, log, held, seconds, told)
        except NotForked as error:
            _say(folder / "log.txt", error)
            return None

    def end(self) -> None:
        """Ends the preloaded processes; programs keep running.

        Raises:
            CannotEnd: a process cannot be ended.
        """
        self._servers.end()


def _say(log: Path, error: Exception) -> None:
    with log.open("a") as file:
        file.write(f"{datetime.now(UTC):%H:%M:%S} the program starts without preloading: {error}\n")
