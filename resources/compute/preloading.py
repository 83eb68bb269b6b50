"""Programs forked from a process that has imported their libraries already: a second of start instead of six.

It is only ever a shortcut: whatever keeps it from working, the program is started as a process of its own, and its log
says why. A project's own tests (`ci`) never run in such a fork, and `dataset` imports too little to gain by it.
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
        """To the process that will fork this program, for as long as it is waited for; None: start it without."""
        found = None
        if program in PROGRAMS and sys.platform == "linux":  # elsewhere libraries may not live through a fork
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
        held: int,
    ) -> Forked | None:
        """The program, waiting for `begin`; None: start it without."""
        try:
            return fork(connection, module, arguments, folder, environment, log, held)
        except NotForked as error:
            _say(folder / "log.txt", error)
            return None

    def end(self) -> None:
        """Ends the preloaded processes; programs go on.

        Raises:
            CannotEnd: one lives on.
        """
        self._servers.end()


def _say(log: Path, error: Exception) -> None:
    with log.open("a") as file:
        file.write(f"{datetime.now(UTC):%H:%M:%S} the program is started without preloading: {error}\n")
