"""Proposals of imported data: what upstream has that the watched branch has not.

Which imports may be updated is in the settings (`config.proposals`); DVC is asked by `resources.project_source`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops_assets.config.proposals import ImportProposals
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.moved_subjects import Looked, Moved, Unchanged
from llmops_assets.domain.keys import digest, short
from llmops_assets.machine.redaction import redacted
from resources.assembly import Clients
from resources.project_source.errors import SourceError
from resources.project_source.git_mirror import GitMirror
from resources.project_source.imported_data import ImportedData
from resources.project_source.imports import Import, imports_of

LONGEST = 280
"""Characters of a path in a subject."""


def look_at_imports(clients: Clients, project: ProjectSource, allowed: ImportProposals, head: str) -> Looked:
    """What upstream has that the imported data of a commit has not.

    Args:
        allowed: which imports may be updated.

    Raises:
        SourceError: a file of the commit cannot be read.
    """
    settings, git = clients.settings, clients.sources(project).git
    data = ImportedData(git, settings.home, project.name, allowed, settings.pull_timeout)
    found = list(imports_of(git, head))
    faults = [text for text in found if isinstance(text, str)]
    imports = [one for one in found if isinstance(one, Import)]
    faults += [why for one in imports if (why := data.why_not(one))]
    watched = {one.file: one for one in imports if not data.why_not(one)}
    seen = data.look(head, list(watched.values())) if watched else {}
    moved, held = list[Moved](), dict[str, str]()
    for file, one in watched.items():
        if seen[file].error:
            faults.append(f"{file}: {seen[file].error}")
            continue
        version = seen[file].version
        subject, state = _subject(one.out), digest([one.address, one.source, version])
        if version == one.version:
            held[subject] = state
            continue
        moved.append(
            Moved(
                subject=subject,
                state=state,
                path=file,
                title=f"Update {one.out} from its upstream",
                body=f"{redacted(one.address)} has moved.\nWritten by `dvc update {file}` of the location's bot.",
                make=_UpdatedImport(git, data, file, one.address, version),
            )
        )
    return Looked(moved=moved, held=held, faults=faults)


def _subject(path: str) -> str:
    """The name of an import in the ledger, whose column has a limit."""
    return f"import {path}" if len(path) <= LONGEST else f"import {path[: LONGEST - 13]}-{short(digest(path))}"


@dataclass(frozen=True)
class _UpdatedImport:
    """The file that a proposal of imported data changes."""

    git: GitMirror
    data: ImportedData
    file: str
    address: str
    version: Mapping[str, Any]

    def __call__(self, base: str) -> Mapping[str, bytes]:
        found = [one for one in imports_of(self.git, base) if isinstance(one, Import) and one.file == self.file]
        if not found or found[0].version == self.version:
            raise Unchanged  # a person has removed or updated it meanwhile
        if found[0].address != self.address:
            raise SourceError(f"{self.file} has another upstream at {short(base)}; it is looked at again")
        text, differs = self.data.fetch(base, found[0], self.version)
        if not differs:
            raise Unchanged
        return {self.file: text}
