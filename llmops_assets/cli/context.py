"""Shared by all `llmops` commands: options, error handling, and the project's context."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, TextIO, cast

import typer
from rich.console import Console

from llmops_assets.catalog import BrokenPackage
from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import load_settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.planning import base_of, plan_revision
from llmops_assets.domain.plan import Plan
from llmops_assets.domain.provenance import ProvenanceError
from llmops_assets.machine.private import NotOurs, keep_private
from llmops_assets.machine.redaction import RedactedStream, hide_secrets, redacted
from llmops_assets.machine.supervisor import SupervisorError
from resources.artifact_store.store import StoreDenied, StoreError
from resources.ledger import Ledger, LedgerError
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository
from resources.serving.interface import ServingError

out = Console(highlight=False, file=cast(TextIO, RedactedStream("stdout")))
err = Console(highlight=False, file=cast(TextIO, RedactedStream("stderr")), stderr=True)


def _project_names() -> list[str]:
    """For shell completion, which must print no error."""
    with suppress(ConfigError):
        return [project.name for project in load_settings().projects]
    return []


OptionalProject = Annotated[
    str | None,
    typer.Argument(help="Name of the project; optional if there is only one.", autocompletion=_project_names),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Revision = Annotated[str | None, typer.Option(help="Commit, tag or branch; default: head of the watched branch.")]

hide_secrets()


class CommandRefused(Exception):
    """The outcome is negative: exit code 1."""


@contextmanager
def answers() -> Iterator[None]:
    """Turns errors that users can fix into one message and an exit code."""
    try:
        yield
    except CommandRefused as error:
        err.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except (
        ConfigError,
        SourceError,
        LedgerError,
        ProvenanceError,
        ServingError,
        SupervisorError,
        BrokenPackage,
        StoreDenied,
        StoreError,
    ) as error:
        err.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from error


def own_settings() -> Settings:
    """The settings, for a command that uses the home: from then on it is closed to other users.

    Raises:
        ConfigError: as `load_settings`; or the home is open, and belongs to someone else.
    """
    settings = load_settings()
    if settings.profile == "local":
        try:
            keep_private(settings.home)
        except NotOurs as error:
            raise ConfigError([str(error)]) from error
    return settings


class CommandContext:
    """The settings, one project and its clients."""

    def __init__(self, project: str | None, fetch: bool = True):
        from resources.assembly import build_clients

        self.settings: Settings = own_settings()
        self.project: ProjectSource = self.settings.project(project)
        self.clients = build_clients(self.settings)
        self.ledger: Ledger = self.clients.ledger
        self.source: ProjectRepository = self.clients.sources(self.project)
        if fetch:
            self.source.git.fetch(on_progress=lambda text: err.print(text, markup=False))

    def revision(self, name: str | None) -> str:
        if name:
            return self.source.git.resolve(name)
        head = self.source.git.head()
        if head is None:
            raise SourceError(self.source.no_head)
        return head

    def base(self, revision: str, against: str | None = None) -> str | None:
        """The revision that a plan compares with: the last other commit whose request left no change undone."""
        if against:
            return self.source.git.resolve(against)
        return base_of(self.ledger, self.project.name, revision)

    def plan(self, revision: str, against: str | None = None) -> Plan:
        base = self.base(revision, against)
        if against and base:
            try:
                self.source.at(base)
            except ConfigError as error:
                told = [f"--against {against}: {problem}" for problem in error.problems]
                raise ConfigError(told) from error
        return plan_revision(self.source, self.ledger, self.clients.store, revision, base)


def emit(value: Any) -> None:
    print(redacted(json.dumps(value, indent=2, default=str)))
