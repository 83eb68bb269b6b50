"""Programs, and functions of tests, in forks of the server that has imported the libraries: one for all test processes.

python -m tests.support.forking FILE    # calls a pickled function, in such a fork
"""

import os
import pickle
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llmops_assets.machine.forked import Forked, ForkServers, fork
from llmops_assets.machine.locks import alone_now, sharing

REPOSITORY = Path(__file__).parents[2]
PRELOADED = "llmops_assets.programs.runtime.preloaded"


class Forking:
    folder: ClassVar[Path]
    """The folder of the session's servers, those of worlds too; the fixture `shared_by_worlds` sets it."""


@dataclass(frozen=True)
class Running:
    """A fork that has begun."""

    forked: Forked
    connection: socket.socket

    @property
    def pid(self) -> int:
        return self.forked.pid

    def wait(self) -> int:
        """Its exit code once it has ended, negative for a signal."""
        with self.connection:
            self.connection.setblocking(True)
            code = self.forked.poll()
        assert code is not None, "the keeper of the fork was killed"
        return code


@contextmanager
def used_together(servers: ForkServers, users: Path) -> Iterator[None]:
    """The servers end with the last process that uses them: a start of another one's would be killed with them."""
    with sharing(users):
        yield
    with alone_now(users) as last:
        if last:
            servers.end()


def start(module: str, arguments: Sequence[str], log: Path) -> Running:
    """Starts `python -m MODULE ARGUMENT ...` with the environment that local compute gives its programs."""
    return _start(module, arguments, log, {})


def call(function: Callable[..., object], *arguments: Any, log: Path) -> Running:
    """Starts a function of a module, with our own environment. An exception is in the log; the exit code is then 1."""
    file = log.with_name(f"{log.name}.call")
    file.write_bytes(pickle.dumps((function, arguments)))
    return _start(__name__, [str(file)], log, os.environ)


def called(function: Callable[..., object], *arguments: Any, log: Path) -> None:
    """Calls a function of a module to its end."""
    assert call(function, *arguments, log=log).wait() == 0, log.read_text(errors="replace")


def _start(module: str, arguments: Sequence[str], log: Path, more: Mapping[str, str]) -> Running:
    from resources.compute.local import LocalCompute

    environment = LocalCompute(Forking.folder, threads=1).environment(Forking.folder)
    connection = ForkServers(Forking.folder, PRELOADED).connect(environment)
    with log.open("wb") as file:
        forked = fork(connection, module, arguments, REPOSITORY, {**environment, **more}, file.fileno(), [])
    forked.begin()
    return Running(forked, connection)


if __name__ == "__main__":
    function, arguments = pickle.loads(Path(sys.argv[1]).read_bytes())
    function(*arguments)
