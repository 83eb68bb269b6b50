"""The benchmarks' temporary folder, and resources that several benchmarks share. Measures nothing."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Place:
    """A temporary folder of this run, and resources created once for all benchmarks.

    Args:
        quick: small inputs and few repetitions: checks that the benchmarks run; the figures mean nothing.
        parent: where to create the folder; None: the system's temporary folder.
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
        """The result of `make`, which is called once."""
        if name not in self._shared:
            self._shared[name] = make()
        found: T = self._shared[name]
        return found

    def at_end(self, undo: Callable[[], object]) -> None:
        """Registers a cleanup for the end of the run, successful or not; last registered, first called."""
        self._stack.callback(undo)

    def enter(self, context: AbstractContextManager[T]) -> T:
        """What the context yields; it is left when the run is over, however it ends."""
        return self._stack.enter_context(context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
