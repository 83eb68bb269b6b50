"""The interface for running programs, its jobs and its results. Implementations are in this package."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, Field, ValidationError

from llmops_assets.domain import hardware as domain
from llmops_assets.domain.models import Frozen
from llmops_assets.programs.runtime.hardware import usable_cpus

R = TypeVar("R", bound=BaseModel)
OnProgress = Callable[[dict[str, Any]], None]


class ProgramError(Exception):
    """The program ended without a result, and no input is known to be at fault: a retry may succeed."""


class TimeLimitReached(Exception):
    """The program reached its time limit, and was ended with everything that it had started."""


class Job(Frozen):
    name: str
    """Derived from the key of the work."""
    program: str
    """Module under llmops_assets.programs, or the whole dotted path of another module."""
    spec: dict[str, Any]
    heavy: bool = False
    """Uses the only slot for heavy programs."""
    time_limit_s: float | None = None
    """The program is ended after this time; None: no limit."""
    secrets: tuple[str, ...] = ()
    """Environment variables that it gets besides those that every program gets. Their values are written nowhere."""
    asset: str = ""
    """The asset that the program works for, as Dagster Pipes names it: project/stage."""

    @property
    def module(self) -> str:
        return self.program if "." in self.program else f"llmops_assets.programs.{self.program}"


class Finished(Frozen):
    result: dict[str, Any]
    folder: str
    seconds: float
    adopted: bool
    metadata: dict[str, Any] = Field(default_factory=dict)
    """What the program reported by Dagster Pipes: name → {raw_value, type}."""
    hardware: str = ""
    """The class of the hardware that it used; empty: it says nothing."""
    gpu_memory_bytes: int | None = None
    """The most GPU memory that it reserved; None: it used no GPU by itself."""

    def read(self, model: type[R]) -> R:
        """The result as its model.

        Raises:
            ProgramError: it is something else.
        """
        try:
            return model.model_validate(self.result)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ProgramError(f"{self.folder}/result.json is no {model.__name__}: {key}: {first['msg']}") from error

    @property
    def artifact(self) -> Path:
        return Path(self.folder) / "artifact"


class Compute(Protocol):
    """Runs programs. A job's name is derived from its key, so submitting it twice adopts the running one."""

    def run(self, job: Job, on_progress: OnProgress | None = None) -> Finished:
        """Submits the job or adopts the running one, and waits for its result.

        Raises:
            BadInput: the program reported invalid input.
            DiskFull: the program ran out of space, or there is none to start it.
            TimeLimitReached: it did not end in time.
            ProgramError: it ended without a result: killed, out of memory, or a bug.
        """

    def cancel(self, name: str) -> bool:
        """Ends a job; True if it was running."""

    def cancel_work(self, keys: Iterable[str]) -> list[str]:
        """Ends every job of these keys; returns their names."""

    def cancel_all(self) -> list[str]:
        """Ends every job; returns their names."""

    def clean(self, name: str) -> None:
        """Deletes a job's files, once its result is safe in store and ledger."""

    def ended(self) -> list[str]:
        """The names of all jobs that have files and are not running."""


def hardware_class() -> str:
    """The class of this machine without GPUs: what light work uses. A program says itself what it has used."""
    return domain.hardware_class(usable_cpus())
