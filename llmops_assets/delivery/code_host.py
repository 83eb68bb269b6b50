"""Answers on the code host: compares the states of a project's commits with what was posted, and posts the
differences.

`llmops_assets.domain.answers` decides what is shown. Only the newest state counts: one that was overtaken while the
host could not be reached is never posted. Nothing here ever stops a run or a release: failures are stored, reported and
retried.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from llmops_assets.catalog import CODE_HOSTS, UnavailablePart
from llmops_assets.config.code_host import CodeHostSettings, repository_on_host
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.answers import Comments, Gathered, deployments, gather
from llmops_assets.domain.answer_comment import CommentAnswer
from llmops_assets.domain.answers import GroupAnswer
from llmops_assets.domain.delivery_attempts import LEASE_S, pause_s
from llmops_assets.domain.deployment_answers import DeploymentAnswer
from llmops_assets.domain.formatting import ago, excerpt
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.notification_baseline import Baseline
from llmops_assets.machine.redaction import redacted
from resources.assembly import Clients
from resources.code_hosts.github_app import AppKey, BadKey
from resources.code_hosts.interface import CodeHost, HostRefuses, HostUnavailable, Permission
from resources.ledger.answers import Posted

ROUND_S = 20.0
"""How long a round posts; the next one continues. A request takes up to 10 s where nobody answers."""
MOST = 30
"""Answers that one round posts: hosts limit how fast content is created."""
LONGEST_WAIT_S = 3700.0
"""The longest wait that a host may ask for: GitHub's limits are by the hour."""
SETTLED, SETTLED_AFTER = frozenset({400, 410, 413, 422}), 6
"""Refusals of this content, and attempts (2.5 minutes) after which it is not posted again until it changes: a host that
mirrors the repository does not know a new commit at once. Others, such as 403 and 404, may pass at any time."""
LOOK_AGAIN_S, LOOK_IDLE_S, LOOK_FOR_S = 30.0, 300.0, 86_400.0
"""How often a commit's pull requests are looked up: while it changes, and while nothing does, for a day: a pull request
may be opened after its commit was judged."""
_HOST = "host"
"""The subject of the row that says when the host itself is to be tried again."""


class Answered(Frozen):
    """What a round did, and what it could not do."""

    posted: int = 0
    left: int = 0
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        done = f"{self.posted} posted, {self.left} to be posted" if self.posted or self.left else "nothing to post"
        return "; ".join([done, *self.faults, *self.notes])


def _credentials(settings: CodeHostSettings) -> str | AppKey:
    """The token, or the App's key.

    Raises:
        ConfigError: the environment variable that holds it is not set.
    """
    if settings.app is not None:
        return AppKey(settings.app.id, settings.app.private_key.read(), settings.app.installation)
    assert settings.token is not None
    return settings.token.read()


Answer = GroupAnswer | CommentAnswer | DeploymentAnswer


@dataclass
class CodeHostAnswers:
    """The answers of one project. Keep it: it remembers what it has seen."""

    project: ProjectSource
    clients: Clients
    clock: Callable[[], float] = time.monotonic
    _seen: int = field(default=-1, init=False)
    _left: bool = field(default=False, init=False)
    _host: tuple[str, CodeHost] | None = field(default=None, init=False)
    _newest: tuple[str, float] | None = field(default=None, init=False)
    _looked: dict[str, float] = field(default_factory=dict, init=False)
    _numbers: dict[str, tuple[int, ...]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._comments = Comments(self.project, self.clients)

    def run(self) -> Answered:
        """Posts what the host does not show yet."""
        if self.project.code_host is None:
            return Answered()
        try:
            name, host = self._connect()
        except (ConfigError, UnavailablePart) as error:
            return Answered(faults=(str(error),))
        ledger = self.clients.ledger
        newest = ledger.newest_event()  # before the rest, so that a change meanwhile is seen the next time
        if newest == self._seen and not self._left and not self._look_again(LOOK_IDLE_S):
            return Answered(notes=host.notes())
        known = ledger.answers(self.project.name, name)
        if (blocked := known.get(_HOST)) and _waits(blocked.due, ledger.clock()):
            self._left = True
            return Answered(left=1, faults=(f"{blocked.detail}; tried again in {ago(blocked.due - ledger.clock())}",))
        baseline = self._baseline(name)
        found = gather(self.project, self.clients, baseline)
        try:
            numbers, faults = self._pull_requests(host, found)
        except HostUnavailable as error:
            self._block(name, known, _text(error), error.wait_s)
            return Answered(left=1, faults=(_text(error),))
        comments = {number: one for one in reversed(found) for number in numbers.get(one.revision, ())}
        wanted: list[Answer] = [
            *(answer for one in found for answer in one.groups),
            *(self._comments.write(one, number) for number, one in comments.items()),
            *(deployments(self.project, self.clients, baseline, found) if host.deploys else ()),
        ]
        done = self._post(name, host, wanted, known)
        self._seen, self._left = newest, bool(done.left)
        return done.model_copy(update={"faults": (*done.faults, *faults), "notes": host.notes()})

    def _look_again(self, pause_s: float) -> bool:
        """Whether the newest commit's pull requests are to be looked up."""
        return self._newest is not None and (
            self.clients.ledger.clock() - self._newest[1] < LOOK_FOR_S
            and self.clock() - self._looked.get(self._newest[0], float("-inf")) >= pause_s
        )

    def _pull_requests(self, host: CodeHost, found: Sequence[Gathered]) -> tuple[dict[str, tuple[int, ...]], list[str]]:
        """Commit → numbers of its pull requests. Those of older commits are looked up once in a process."""
        faults = []
        self._newest = (found[0].revision, found[0].at) if found else None
        for one in found:
            if one is not found[0] and one.revision in self._looked:
                continue
            if one is found[0] and not self._look_again(LOOK_AGAIN_S) and one.revision in self._looked:
                continue
            try:
                self._numbers[one.revision] = host.pull_requests(one.revision)
            except HostRefuses as error:
                faults.append(f"the pull requests of {short(one.revision)}: {_text(error)}")
            self._looked[one.revision] = self.clock()
        return self._numbers, faults

    def begin(self) -> None:
        """Notes what is open now, so that it is answered. What has ended when a host is first seen is not."""
        with suppress(ConfigError, UnavailablePart):  # `run` says it
            self._baseline(self._connect()[0])

    def verify(self) -> list[Permission]:
        """What the token may do; nothing is changed.

        Raises:
            ConfigError, UnavailablePart: the settings name something that is not there.
            HostUnavailable: the host cannot be reached.
        """
        _, host = self._connect()
        return host.verify()

    @property
    def place(self) -> str:
        """The API and repository that are answered to.

        Raises:
            ConfigError: the settings do not say it.
        """
        assert self.project.code_host is not None
        api, repository = repository_on_host(self.project.code_host, self.project.address)
        return f"{repository} at {api}"

    def _connect(self) -> tuple[str, CodeHost]:
        """(name in the ledger, client). The token is read each time: it may have been replaced."""
        settings = self.project.code_host
        assert settings is not None
        place = repository_on_host(settings, self.project.address)
        name, token = f"{settings.via}:{place.api}/{place.repository}", _credentials(settings)
        if self._host is None or self._host[0] != f"{name} {hash(token)}":
            try:
                host: CodeHost = CODE_HOSTS[settings.via].load()(place.api, place.repository, token)
            except BadKey as error:
                variable = settings.app.private_key.env if settings.app else ""
                raise ConfigError(
                    [f"code_host.app.private_key: the environment variable {variable}: {error}"]
                ) from error
            self._host = (f"{name} {hash(token)}", host)
        return name, self._host[1]

    def _baseline(self, name: str) -> Baseline:
        """What the ledger held when this host was first seen: its commits are not answered."""
        ledger, target = self.clients.ledger, "@code-host"
        found = ledger.baseline(self.project.name, target)
        if found is None:
            project = self.project.name
            now = Baseline.of(ledger.closings(project), ledger.rolled(project))
            found = ledger.begin_telling(project, target, now)
        return found

    def _post(self, name: str, host: CodeHost, wanted: Sequence[Answer], known: dict[str, Posted]) -> Answered:
        ledger, project = self.clients.ledger, self.project.name
        differing = [a for a in wanted if (p := known.get(a.subject)) is None or p.digest != a.digest]
        posted, faults, until = 0, [], self.clock() + ROUND_S
        for answer in differing:
            before = known.get(answer.subject)
            now = ledger.clock()
            if before is not None and _waits(before.due, now):
                faults += [before.detail] if before.detail else []
                continue
            if posted >= MOST or self.clock() > until:
                break
            claimed = ledger.claim_answer(project, name, answer.subject, before, now + LEASE_S)
            if claimed is None:
                continue
            try:
                remote = self._show(host, answer, claimed.remote)
            except HostRefuses as error:
                why = f"{answer.context}: {_text(error)}"
                faults.append(why)
                if error.status in SETTLED and claimed.tries >= SETTLED_AFTER:
                    ledger.note_answer(claimed, answer.digest, claimed.remote)
                else:
                    ledger.postpone_answer(claimed, ledger.clock() + pause_s(claimed.tries), why)
            except Exception as error:
                faults.append(_text(error))
                wait_s = error.wait_s if isinstance(error, HostUnavailable) else None
                ledger.postpone_answer(claimed, 0.0, "")
                self._block(name, known, _text(error), wait_s)
                break
            else:
                posted += 1
                ledger.note_answer(claimed, answer.digest, remote)
        else:
            self._unblock(known)
        left = len(differing) - posted
        return Answered(posted=posted, left=left, faults=tuple(dict.fromkeys(faults)))

    def _show(self, host: CodeHost, answer: Answer, remote: str) -> str:
        match answer:
            case GroupAnswer():
                return host.report(answer, remote)
            case CommentAnswer():
                return host.comment(answer, remote)
            case DeploymentAnswer():
                return host.deploy(answer, remote)

    def _block(self, name: str, known: dict[str, Posted], why: str, wait_s: float | None) -> None:
        """Notes that the host must not be asked for a while; all processes respect it."""
        ledger = self.clients.ledger
        claimed = ledger.claim_answer(self.project.name, name, _HOST, known.get(_HOST), 0.0)
        if claimed is not None:
            pause = pause_s(claimed.tries) if wait_s is None else min(wait_s, LONGEST_WAIT_S)
            ledger.postpone_answer(claimed, ledger.clock() + pause, why)

    def _unblock(self, known: dict[str, Posted]) -> None:
        if (blocked := known.get(_HOST)) and blocked.tries:
            self.clients.ledger.note_answer(blocked, "", "")


def _waits(due: float, now: float) -> bool:
    """Whether it is too early. A time further ahead than any wait was written by a clock that was set back."""
    return now < due <= now + LONGEST_WAIT_S + LEASE_S


def _text(error: Exception) -> str:
    """Why an attempt failed. Of an unexpected error only its type: its text may contain the address."""
    known = isinstance(error, HostRefuses | HostUnavailable)
    return excerpt(redacted(str(error))) if known else f"unexpected {type(error).__name__}"
