"""Proposals: looks at what has moved outside of a project's repository, and pushes a commit of the bot for each move.

`llmops_assets.domain.proposals` decides; the ledger's row of a state is the lock. Data is in the DVC remote before its
commit is pushed. The commit is then an ordinary push: the sensors find it, and no gate or approval knows the bot.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmops_assets.config.proposals import ProposalSettings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.delivery_attempts import pause_s
from llmops_assets.domain.formatting import ago, excerpt
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.prompt import PromptError, check_prompt
from llmops_assets.domain.proposals import Leave, Make, Proposal, branch_of, next_step
from llmops_assets.machine.redaction import redacted
from resources.assembly import Clients
from resources.project_source.bot_commits import BranchMoved, commit_files, push
from resources.project_source.errors import SourceError
from resources.project_source.git_mirror import GitMirror
from resources.project_source.imported_data import ImportedData
from resources.project_source.imports import Import, imports_of
from resources.project_source.revisions import ProjectRepository
from resources.prompt_registry.mlflow import MlflowPrompts, PromptUnavailable, same_text

LEASE_S = 600.0
"""How long an attempt belongs to the process that makes it. A download that takes longer may be made twice at once:
both then make the same commit."""
LONGEST = 280
"""Characters of a path in a subject."""
ROUNDS = 5
"""Attempts of one proposal while people push to the watched branch."""


class Proposed(Frozen):
    """What a round did, and what it could not do."""

    done: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join([*self.done, *self.faults, *self.notes]) or "nothing has moved"


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


@dataclass
class Proposals:
    """The proposals of one project. Keep it: it remembers when it looked."""

    project: ProjectSource
    clients: Clients
    clock: Callable[[], float] = time.monotonic
    _looked: float = field(default=float("-inf"), init=False)
    _head: str | None = field(default=None, init=False)
    _last: Proposed = field(default=Proposed(), init=False)

    @property
    def settings(self) -> ProposalSettings:
        assert self.project.proposals is not None
        return self.project.proposals

    def run(self, at_once: bool = False) -> Proposed:
        """Looks, and proposes what has moved; between two looks it says what the last one found.

        Args:
            at_once: whether to look though it is not time yet: something was announced.
        """
        left = self._looked + self.settings.every - self.clock()
        if left > 0 and not at_once:
            last = str(self._last)
            return Proposed(notes=(f"{last}; looks again in {ago(left)}",), faults=())
        self._looked = self.clock()
        self._last = self._round()
        return self._last

    def _round(self) -> Proposed:
        source = self.clients.sources(self.project)
        try:
            source.git.update()
            head = source.git.tip()
            if head is None:
                return Proposed(faults=(source.no_head,))
            source.at(head)  # links that leave the project, a broken llmops.yaml: nothing is proposed on top
        except (SourceError, ConfigError) as error:
            return Proposed(faults=(_text(error),))
        done, notes, faults = list[str](), list[str](), list[str]()
        for look in self._kinds():
            try:
                looked = look(head)
            except (SourceError, ConfigError) as error:
                faults.append(_text(error))
                continue
            faults += looked.faults
            rows = self.clients.ledger.proposals(self.project.name)
            for subject, state in looked.held.items():
                self._note_held(rows.get(subject, []), subject, state)
            for moved in looked.moved:
                what, made = self._propose(moved, rows.get(moved.subject, []), head)
                (done if made else notes).append(what)
        return Proposed(done=tuple(done), notes=tuple(notes), faults=tuple(faults))

    def _kinds(self) -> list[Callable[[str], Looked]]:
        imports = [self._imports] if self.settings.imports else []
        return [*imports, *([self._prompts] if self.settings.prompts else [])]

    def _note_held(self, rows: Sequence[Proposal], subject: str, state: str) -> None:
        """Remembers a state that the branch has, so that it is not proposed after a person has taken it back."""
        ledger, newest = self.clients.ledger, rows[-1] if rows else None
        if newest is None or newest.state != state:
            number = newest.number + 1 if newest else 1
            ledger.begin_proposal(self.project.name, subject, number, state, 0.0, status="unchanged")
        elif newest.status == "begun":  # it was pushed, and that was not noted
            ledger.settle_proposal(newest, self.project.name, "proposed" if newest.revision else "unchanged")

    # -- one proposal -------------------------------------------------------------------------------------------------

    def _propose(self, moved: Moved, rows: list[Proposal], head: str) -> tuple[str, bool]:
        """What was done or not, as text, and whether a commit was pushed."""
        ledger, project = self.clients.ledger, self.project.name
        git, own_branch = self.clients.sources(self.project).git, self.settings.to == "proposal_branch"
        ref = branch_of(project, moved.subject) if own_branch else self.project.branch
        tip = git.branches().get(ref) if own_branch else None
        newest, now = rows[-1] if rows else None, ledger.clock()
        changed = newest is not None and self._differ(newest.base, head, moved.path)
        step = next_step(rows, moved.state, ref, tip.revision if tip else None, changed, now)
        if isinstance(step, Leave):
            return step.reason, False
        if step.new or newest is None:
            claimed = ledger.begin_proposal(project, moved.subject, step.number, moved.state, now + LEASE_S)
        else:
            claimed = ledger.claim_proposal(newest, now + LEASE_S)
        if claimed is None:
            return f"{moved.subject}: another process is making the proposal", False
        try:
            return self._push(moved, claimed, step, head), True
        except Unchanged:
            ledger.settle_proposal(claimed, project, "unchanged")
            return f"{moved.subject}: it has moved, and its content is the same", False
        except Refused as error:
            ledger.settle_proposal(claimed, project, "refused", _text(error))
            return f"{moved.subject}: refused: {_text(error)}", False
        except (SourceError, ConfigError) as error:
            why = f"{_text(error)}; attempt {claimed.tries}"
            ledger.postpone_proposal(claimed, ledger.clock() + pause_s(claimed.tries), why)
            self._looked = min(self._looked, self.clock() - self.settings.every + pause_s(claimed.tries))
            return f"{moved.subject}: {why}", False

    def _push(self, moved: Moved, claimed: Proposal, step: Make, head: str) -> str:
        ledger, git, bot = self.clients.ledger, self.clients.sources(self.project).git, self.settings.bot
        own_branch = self.settings.to == "proposal_branch"
        for left in reversed(range(ROUNDS)):
            files = moved.make(head)
            message = f"{moved.title}\n\n{moved.body}\n"
            revision = commit_files(git, head, files, bot.name, bot.email, message, claimed.created)
            claimed = ledger.note_commit(claimed, head, revision, step.ref)
            try:
                push(git, revision, step.ref, step.expected if own_branch else None)
            except BranchMoved:
                if own_branch or not left:
                    raise
                git.update()
                head = git.tip() or head
                continue
            ledger.settle_proposal(claimed, self.project.name, "proposed")
            git.update()
            return f"{moved.subject}: proposed {short(revision)} on {step.ref}"
        raise AssertionError("the last round returns or raises")

    def _differ(self, base: str, head: str, path: str) -> bool:
        """Whether a file differs between two commits; no, if one of them is unknown."""
        git = self.clients.sources(self.project).git
        try:
            return bool(base) and git.object_id(base, path) != git.object_id(head, path)
        except SourceError:
            return False

    # -- imported data ------------------------------------------------------------------------------------------------

    def _imports(self, head: str) -> Looked:
        assert self.settings.imports is not None
        settings = self.clients.settings
        git = self.clients.sources(self.project).git
        data = ImportedData(git, settings.home, self.project.name, self.settings.imports, settings.pull_timeout)
        found = list(imports_of(git, head))
        faults = [text for text in found if isinstance(text, str)]
        imports = [one for one in found if isinstance(one, Import)]
        faults += [why for one in imports if (why := data.why_not(one))]
        allowed = {one.file: one for one in imports if not data.why_not(one)}
        seen = data.look(head, list(allowed.values())) if allowed else {}
        moved, held = list[Moved](), dict[str, str]()
        for file, one in allowed.items():
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

    # -- prompts ------------------------------------------------------------------------------------------------------

    def _prompts(self, head: str) -> Looked:
        source = self.clients.sources(self.project)
        registry = MlflowPrompts(self.clients.tracking.server)
        moved, held, faults = list[Moved](), dict[str, str](), list[str]()
        for prompt in self.settings.prompts:
            subject = f"prompt {prompt.name}@{prompt.alias}"
            try:
                found = registry.at(prompt.name, prompt.alias)
                path, now = template_at(source, head, prompt.key)
            except (PromptUnavailable, SourceError) as error:
                faults.append(f"{subject}: {_text(error)}")
                continue
            state = digest([prompt.name, found.version, found.template])
            if found.template is not None and same_text(found.template, now):
                held[subject] = state
                continue
            author = _co_author(found.author)
            moved.append(
                Moved(
                    subject=subject,
                    state=state,
                    path=path,
                    title=f"{prompt.key}: version {found.version} of {prompt.name} in MLflow",
                    body=f"The alias {prompt.alias} of the prompt registry names it now.{author}",
                    make=_WrittenPrompt(source, prompt.key, found.template),
                )
            )
        return Looked(moved=moved, held=held, faults=faults)


def template_at(source: ProjectRepository, revision: str, key: str) -> tuple[str, str]:
    """The file and the text of a template that llmops.yaml names.

    Raises:
        SourceError: it names none.
        ConfigError: it is invalid.
    """
    at = source.at(revision)
    path = at.config.training.prompt if key == "training.prompt" else at.config.prompt
    if path is None:
        raise SourceError(f"{key} in llmops.yaml of {short(revision)} names no file to write the template to")
    text: str = at.values[key]
    return path, text


@dataclass(frozen=True)
class _WrittenPrompt:
    """The file that a proposal of a prompt changes."""

    source: ProjectRepository
    key: str
    template: str | None

    def __call__(self, base: str) -> Mapping[str, bytes]:
        if self.template is None:
            raise Refused("it is a list of messages, and a prompt template is one text: the user turn")
        try:
            check_prompt(self.template)
        except PromptError as error:
            raise Refused(str(error)) from None
        path, now = template_at(self.source, base, self.key)
        if same_text(self.template, now):
            raise Unchanged
        return {path: f"{self.template.rstrip()}\n".encode()}


def _co_author(name: str) -> str:
    """A line for the commit that makes a prompt's author an author of the change, who then cannot approve it."""
    if not name or not name.isprintable() or any(sign in name for sign in "<>"):
        return ""
    return f"\n\nCo-authored-by: {name} <{name}>"


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


def _text(error: Exception) -> str:
    return excerpt(redacted("; ".join(error.problems) if isinstance(error, ConfigError) else str(error)), 400)
