"""Proposals: looks at what has moved outside of a project's repository, and pushes a commit of the bot for each move.

`llmops_assets.domain.proposals` decides; the ledger's row of a state is the lock. Data is in the DVC remote before its
commit is pushed. The commit is then an ordinary push: the sensors find it, and no gate or approval knows the bot.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llmops_assets.config.proposals import ProposalSettings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.import_proposals import look_at_imports
from llmops_assets.delivery.moved_subjects import Looked, Moved, Refused, Unchanged, text_of
from llmops_assets.delivery.prompt_proposals import look_at_prompts
from llmops_assets.domain.delivery_attempts import pause_s
from llmops_assets.domain.formatting import ago
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.proposals import Leave, Make, Proposal, branch_of, next_step
from resources.assembly import Clients
from resources.project_source.bot_commits import BranchMoved, commit_files, push
from resources.project_source.errors import SourceError

LEASE_S = 600.0
"""How long an attempt belongs to the process that makes it. A download that takes longer may be made twice at once:
both then make the same commit."""
ROUNDS = 5
"""Attempts of one proposal while people push to the watched branch."""


class Proposed(Frozen):
    """What a round did, and what it could not do."""

    done: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join([*self.done, *self.faults, *self.notes]) or "nothing has moved"


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
            return Proposed(faults=(text_of(error),))
        done, notes, faults = list[str](), list[str](), list[str]()
        for look in self._kinds():
            try:
                looked = look(head)
            except (SourceError, ConfigError) as error:
                faults.append(text_of(error))
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
        kinds: list[Callable[[str], Looked]] = []
        if imports := self.settings.imports:
            kinds.append(lambda head: look_at_imports(self.clients, self.project, imports, head))
        if prompts := self.settings.prompts:
            kinds.append(lambda head: look_at_prompts(self.clients, self.project, prompts, head))
        return kinds

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
            ledger.settle_proposal(claimed, project, "refused", text_of(error))
            return f"{moved.subject}: refused: {text_of(error)}", False
        except (SourceError, ConfigError, OSError) as error:  # OSError: a full disk, for example
            why = f"{text_of(error)}; attempt {claimed.tries}"
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
