"""Where benchmarks work: a folder that vanishes with them, and what several of them share. Nothing is measured here."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Place:
    """A folder of this run, and things made once for all benchmarks that ask for them.

    Args:
        quick: small inputs and few repetitions: shows that the benchmarks run, its figures mean nothing.
        parent: where the folder is made; None: the system's temporary folder.
    """

    def __init__(self, quick: bool = False, parent: Path | None = None):
        self.quick = quick
        self._stack = ExitStack()
        self._shared: dict[str, Any] = {}
        self.root = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="llmops-bench-", dir=parent)))

    def folder(self, name: str) -> Path:
        """A new folder below the root."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root))

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """What `make` yields, made on the first call."""
        if name not in self._shared:
            self._shared[name] = make()
        found: T = self._shared[name]
        return found

    def at_end(self, undo: Callable[[], object]) -> None:
        """Called when the run is over, however it ends; the last first."""
        self._stack.callback(undo)

    def enter(self, context: AbstractContextManager[T]) -> T:
        """What the context yields; it is left when the run is over, however it ends."""
        return self._stack.enter_context(context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
