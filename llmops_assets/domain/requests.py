"""Decides what a sensor's tick should do, from the ledger's requests and the branch's head: one change, one run. Pure.

Inserting the request's row (`resources.ledger`) is the lock; nothing here writes.
"""

from collections.abc import Sequence
from typing import Literal

from llmops_assets.domain.config_diff import Change, needs_a_run, only_data
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen

Status = Literal[
    "queued", "running", "waiting", "released", "done", "rejected", "failed", "cancelled", "superseded", "skipped"
]
ACTIVE: frozenset[str] = frozenset({"queued", "running"})
"""`waiting` (for an approval or a review) is not active: newer commits proceed."""
WAITS_FOR_REVIEW = "waiting for review"
"""How the detail of a request begins that waits for a review, and not for an approval."""
WAITS_FOR_BUDGET = "waiting for a decision on its budget"
"""How the detail of a request begins that waits because it costs more than its budget."""
TOLD: frozenset[str] = frozenset({"skipped", "rejected", "failed", "waiting", "superseded"})
"""Statuses whose detail every later tick repeats."""
ROLLBACK = "rollback"
"""The `asked_by` of a request that only moves traffic back; it plans no revision."""
CLICK = "person, by a click"
"""The `asked_by` of a rollout that a person started by materializing production_endpoint in Dagster."""
PARTIAL = "person, some stages"
"""The `asked_by` of `llmops run --only`: it does not complete a commit, so sensors ignore it."""
EVALUATION = "person, evaluation only"
"""The `asked_by` of a run of a commit outside of the watched branch, which is never deployed."""
MODEL_STAGE = "evaluation_report"
"""The stage that evaluates the model of a request too, if it names one."""
BRANCH_PLAN, BRANCH_CI, BRANCH_EVALUATION = "sensor, plan only", "sensor, ci only", "sensor, evaluation only"
"""The `asked_by` of another branch's commit or a pull request's, which is never deployed: how far it runs."""
ELSEWHERE: frozenset[str] = frozenset({EVALUATION, BRANCH_PLAN, BRANCH_CI, BRANCH_EVALUATION})
"""Requests of commits outside of the watched branch: they neither replace its commits nor are replaced by them."""
SCHEDULE = "schedule"
"""The `asked_by` of a run of a commit that was released before, at a time that the settings name."""
DATA_AGE = "age of its data"
"""The `asked_by` of a row that only says that the data is old; it runs nothing."""
DRIFT = "drift of its users' requests"
"""The `asked_by` of a row that only says that users ask for something else; it runs nothing."""
INCOMPLETE: frozenset[str] = frozenset({PARTIAL, CLICK, DATA_AGE, DRIFT}) | ELSEWHERE
UNSETTLED: frozenset[str] = frozenset({"failed", "cancelled", "superseded"})
"""Final statuses that leave a change undone: the next head is compared with the request before it."""
MOST_NAMED = 40
"""The most commits that a message names one by one."""


class Request(Frozen):
    """A row of the ledger: the n-th request for this revision of this project."""

    project: str
    revision: str
    generation: int
    status: Status
    reason: str
    asked_by: str = "sensor"
    base: str | None = None
    run_id: str | None = None
    tries: int = 1
    """Runs since the request was made, including this one. A retry or an approval by a person resets it to 1."""
    detail: str = ""
    stages: tuple[str, ...] = ()
    """The stages that a person asked for; empty: all that the plan selects."""
    model: str = ""
    """A registered model that is evaluated on this revision's rows too: as a person named it. Empty: none."""

    @property
    def name(self) -> str:
        return f"{self.project}:{self.revision}:{self.generation}"

    @property
    def active(self) -> bool:
        return self.status in ACTIVE

    @property
    def waits_for_review(self) -> bool:
        return self.status == "waiting" and self.detail.startswith(WAITS_FOR_REVIEW)

    @property
    def waits_for_budget(self) -> bool:
        return self.status == "waiting" and self.detail.startswith(WAITS_FOR_BUDGET)

    @property
    def ends_early(self) -> str | None:
        """What a run leaves undone that is partial, or of another branch; None if it may reach production."""
        if self.asked_by in (EVALUATION, BRANCH_EVALUATION) and not self.stages:
            return "evaluated, not deployed: the watched branch does not contain it"
        if not self.stages or "production_endpoint" in self.stages:
            return None
        return f"only {', '.join(self.stages)} ran, and production is unchanged"

    def selects(self, stage: str) -> bool:
        """Whether its run may select a stage."""
        return not self.stages or stage in self.stages

    @property
    def rollback(self) -> bool:
        return self.asked_by == ROLLBACK

    @property
    def by_hand(self) -> bool:
        """Whether it only moves traffic, now, for a person who watches it: it is never resumed, and plans nothing."""
        return self.asked_by in (ROLLBACK, CLICK)

    @property
    def owner(self) -> str:
        """The owner of the rollouts that it runs; the next generation of a commit resumes those of the last one."""
        return self.name if self.by_hand else f"{self.project}:{self.revision}"


def newest_planned(requests: Sequence[Request]) -> Request | None:
    """The request whose revision may deploy: skipped commits and rollbacks have no release of their own."""
    return next((r for r in reversed(planned(requests)) if r.status != "skipped" and not r.by_hand), None)


def planned(requests: Sequence[Request]) -> list[Request]:
    """Requests that complete a commit of the branch; the others only while they are active."""
    return [r for r in requests if r.active or r.asked_by not in INCOMPLETE]


def seen_to(requests: Sequence[Request], revision: str) -> Request | None:
    """The request that handled a head: the newest one, ignoring requests beside it that complete no commit."""
    every = planned(requests)
    complete = [r for r in every if r.asked_by not in INCOMPLETE]
    newest = [*every[-1:], *complete[-1:]]
    return next((r for r in newest if r.revision == revision), None)


def settled(requests: Sequence[Request]) -> Request | None:
    """The newest request that left no change undone: a new head is compared with it.

    Never a rollback: it has the revision of the last planned commit, which may have failed.
    """
    return next((r for r in reversed(planned(requests)) if r.status not in UNSETTLED and not r.by_hand), None)


def unreleased(requests: Sequence[Request]) -> list[str]:
    """Revisions that the watched branch has had since the last release, and that left nothing undone: newest first.

    Their policy is in force, although no release was made under it.
    """
    found: list[str] = []
    for request in reversed(planned(requests)):
        if request.status == "released" and not request.by_hand:
            break
        if request.status in ("done", "skipped") and not request.by_hand and not request.stages:
            found.append(request.revision)
    return list(dict.fromkeys(found))


def another_generation(requests: Sequence[Request], revision: str) -> int:
    """The generation of a revision's next request."""
    return 1 + max((r.generation for r in requests if r.revision == revision), default=0)


class Head(Frozen):
    """The branch's state, as a sensor read it."""

    revision: str | None
    problem: str | None = None
    """Why the head is unusable: unreachable, deleted, an invalid llmops.yaml, data not pushed."""
    found: tuple[Change, ...] | None = None
    """Differences from the revision of the `settled` request; None if there is no such request."""
    files: tuple[str, ...] = ()
    """Changed paths, for the message."""
    passed_over: tuple[str, ...] = ()
    """Earlier commits without a request, oldest first: they are released together with the head."""
    cancels: bool = False
    """Whether its llmops.yaml sets `on_newer: cancel`."""


class Start(Frozen):
    revision: str
    generation: int
    reason: str
    base: str | None = None


class Skip(Frozen):
    reason: str
    waits: bool = False
    """Whether the head still needs a decision, which a later tick can make."""


class Note(Frozen):
    """Nothing to run, but the revision is recorded, so that later heads are compared with it."""

    revision: str
    generation: int
    reason: str


class Supersede(Frozen):
    """Stop the active run, then decide again: the newer commit sets `on_newer: cancel`."""

    request: Request
    by: str
    detail: str


NextRequest = Start | Skip | Note | Supersede


def next_request(
    requests: Sequence[Request], head: Head, owner: Literal["git", "dvc"], holds: Sequence[object] = ()
) -> NextRequest:
    """Decides what to do about a head.

    Args:
        requests: the project's requests, oldest first.
        owner: the calling sensor: the DVC sensor handles changes of data only, the Git sensor all others.
        holds: held releases, whose text every tick repeats.
    """
    decision = _next_request(requests, head, owner)
    if holds and isinstance(decision, Skip):
        return Skip(reason="; ".join([decision.reason, *map(str, holds)]), waits=decision.waits)
    return decision


def _next_request(every: Sequence[Request], head: Head, owner: Literal["git", "dvc"]) -> NextRequest:
    requests = planned(every)
    if head.revision is None:
        return Skip(reason=head.problem or "the branch has no commit", waits=True)
    sha = short(head.revision)
    if last := seen_to(every, head.revision):
        text = f": {last.detail or last.reason}" if last.status in TOLD or last.rollback else ""
        return Skip(reason=f"{sha} is {last.status}{text}")
    if head.problem:
        return Skip(reason=f"{sha}: {head.problem}", waits=True)
    if active := [r for r in requests if r.active]:
        running = active[-1]
        unseen = all(r.revision != head.revision for r in requests)
        if head.cancels and unseen and not running.rollback and needs_a_run(head.found or ()):
            detail = f"{sha} is newer and sets on_newer: cancel"
            return Supersede(request=running, by=head.revision, detail=detail)
        waits = f"{sha} waits for {short(running.revision)}, which is {running.status}"
        return Skip(reason=waits + _along(head.passed_over), waits=True)
    generation = another_generation(every, head.revision)
    if head.found is None:
        if owner == "dvc":
            return Skip(reason=f"{sha}: the first run of a project is started by the Git sensor")
        return Start(revision=head.revision, generation=generation, reason="first run of this project")
    files = _few(head.files)
    if not needs_a_run(head.found):
        if owner == "dvc":
            return Skip(reason=f"{sha}: no data changed")
        what = (
            f"only policy changed ({_few([c.text for c in head.found])}); a policy change alone deploys nothing"
            if head.found
            else f"no stage reads the changed files ({files})"
            if files
            else "its files are the same as in the previously planned commit"
        )
        reason = f"nothing to do: {what}{_along(head.passed_over)}"
        return Note(revision=head.revision, generation=generation, reason=reason)
    mine = "dvc" if only_data(head.found) else "git"
    if mine != owner:
        what = "only data changed: the DVC sensor starts it" if mine == "dvc" else "the Git sensor starts it"
        return Skip(reason=f"{sha}: {what}")
    reason = _few([c.text for c in head.found]) + _along(head.passed_over)
    before = settled(requests)
    return Start(revision=head.revision, generation=generation, reason=reason, base=before.revision if before else None)


def _few(items: Sequence[str], most: int = 4) -> str:
    shown = "; ".join(items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")


def _along(commits: Sequence[str]) -> str:
    """The part of a message that names the commits without a run of their own."""
    if not commits:
        return ""
    named = _few([short(c) for c in commits], MOST_NAMED).replace("; ", ", ")
    many = "commits" if len(commits) > 1 else "commit"
    return f"; includes {len(commits)} earlier {many} without a run of their own: {named}"
