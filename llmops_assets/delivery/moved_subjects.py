"""What may move outside of a project's repository, as a proposal needs it: its state, and the commit that it becomes.

`import_proposals` and `prompt_proposals` look at the subjects of their kind; `proposals` makes the commits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.formatting import excerpt
from llmops_assets.machine.redaction import redacted


class Unchanged(Exception):
    """The branch has the same content already."""


class Refused(Exception):
    """What was seen cannot become a commit, now or later; the message says why."""


@dataclass(frozen=True)
class Moved:
    """A subject whose state the watched branch does not have."""

    subject: str
    state: str
    path: str
    """The file that a proposal changes."""
    title: str
    body: str
    make: Callable[[str], Mapping[str, bytes]]
    """Commit to start from → the files' new content. Raises Unchanged, Refused, SourceError, ConfigError."""


@dataclass(frozen=True)
class Looked:
    """What was seen of all subjects of one kind."""

    moved: Sequence[Moved] = ()
    held: Mapping[str, str] = field(default_factory=dict)
    """Subject → its state, which the watched branch has."""
    faults: Sequence[str] = ()


def text_of(error: Exception) -> str:
    """An error as the ledger keeps it."""
    return excerpt(redacted("; ".join(error.problems) if isinstance(error, ConfigError) else str(error)), 400)
