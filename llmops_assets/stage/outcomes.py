"""Translates a stage's exceptions: an error that a person can fix, the request's outcome, or a crash to resume from."""

from types import TracebackType

import dagster as dg

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.chain import Stage
from llmops_assets.domain.requests import Status
from llmops_assets.machine.disk_space import DiskFull, folder_named_by, full, is_full
from llmops_assets.machine.redaction import clean
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.failures import failure
from resources.artifact_store.store import StoreDenied, StoreError
from resources.compute.interface import ProgramError, TimeLimitReached
from resources.ledger import LedgerError
from resources.project_source.dvc import DataNotPushed
from resources.project_source.errors import SourceError


class faults:
    """Turns errors that a person can fix into one clear failure without retries."""

    def __init__(self, context: dg.AssetExecutionContext, project: ProjectSource, stage: Stage):
        self.context, self.project, self.stage = context, project, stage

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not isinstance(error, Exception):
            return
        cleaned = clean(error)  # Dagster stores and shows it, with its causes
        if isinstance(error, ConfigError | SourceError | StoreDenied | LedgerError):
            raise failure(error, str(cleaned)) from None
        if cleaned is not error:
            raise cleaned from cleaned.__cause__


class outcomes:
    """Closes the request if this stage failed permanently.

    Bad input ends the request. Anything else (a killed program, a damaged artifact, a bug) leaves it active: the
    recovery sensor starts the next generation. A rejection is no failure: `stage.asset` ends that step without output.
    """

    def __init__(self, run: StageExecution):
        self.run = run

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        run = self.run
        if isinstance(error, Exception):
            clean(error)  # it becomes the request's outcome in the ledger
        if isinstance(error, BadInput | DataNotPushed | TimeLimitReached):
            end_request(run, "failed", f"{run.stage.name}: {error}")
            raise failure(error) from None
        if isinstance(error, Exception) and not isinstance(error, dg.Failure | LedgerError) and is_full(error):
            # An automatic retry would only fill the freed space again; a person frees space and then retries.
            home = folder_named_by(error, run.settings.home)
            text = str(error) if isinstance(error, DiskFull) else full(f"{run.stage.name} ({_first(error)})", home)
            end_request(run, "failed", f"{run.stage.name}: {text}")
            raise failure(error, text) from None
        if isinstance(error, ProgramError | StoreError):
            raise failure(error) from None


def end_request(run: StageExecution, status: Status, detail: str) -> None:
    """Closes the run's request with this outcome, and tags the run. A locked ledger is only reported."""
    try:
        run.conclude(status, detail)
    except LedgerError as error:
        # People must see the outcome itself first. The request stays active; the recovery sensor closes or resumes it.
        run.log.error(f"the outcome is not in the ledger: {error}")


def _first(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
