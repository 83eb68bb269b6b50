"""Gathers the current evidence for approvals (ask, authors, rules, earlier decisions) and records decisions.

Used by the stage, the sensor, the CLI and Dagster's launchpad. `llmops_assets.domain.approval` evaluates the evidence.
"""

from collections.abc import Sequence

from llmops_assets.delivery.release_policy import ReleasePolicy, release_policy
from llmops_assets.domain.approval import (
    Approved,
    Ask,
    Author,
    Choice,
    Decision,
    Waiting,
    evaluate_approvals,
    refusals,
)
from llmops_assets.domain.chain import COMPARED
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.release import release_from_records
from llmops_assets.domain.requests import Request
from resources.ledger import Ledger
from resources.project_source.revisions import ProjectRepository


class Refused(Exception):
    """The decision is refused; the message has all reasons."""


class Decided(Frozen):
    decision: Decision
    request: Request | None
    """The request that waited for the decision."""

    @property
    def why(self) -> str:
        """Why its request continues."""
        return f"approved by {self.decision.by}: {self.decision.reason}"


def current_ask(source: ProjectRepository, ledger: Ledger, revision: str) -> Ask | None:
    """The current ask for a revision's release; None while it has no release or reports."""
    return _ask(source, ledger, revision, release_policy(source, ledger, revision))


def _ask(source: ProjectRepository, ledger: Ledger, revision: str, policy: ReleasePolicy) -> Ask | None:
    project, values = source.project.name, source.at(revision).values
    records = ledger.resolve(values).records
    release = release_from_records(project, values, records)
    if release is None or any(s not in records for s in COMPARED):
        return None
    champion, since = ledger.champion_since(project)
    return Ask(
        project=project,
        release=release.digest,
        reports=tuple(records[s].outputs[""] for s in COMPARED),
        replaces=champion,
        since=since,
        loosened=policy.loosened,
    )


def authors_of(source: ProjectRepository, ledger: Ledger, revision: str) -> list[Author]:
    """The authors of all commits that this revision would release."""
    champion = ledger.serving(source.project.name, "production")
    return source.git.authors(revision, champion.revision if champion else None)


def evaluate_current_approval(source: ProjectRepository, ledger: Ledger, revision: str) -> Approved | Waiting:
    """Whether the revision's release is currently approved."""
    return _evaluate(source, ledger, revision, release_policy(source, ledger, revision))


def _evaluate(source: ProjectRepository, ledger: Ledger, revision: str, policy: ReleasePolicy) -> Approved | Waiting:
    ask = _ask(source, ledger, revision, policy)
    if ask is None:
        return Waiting(reasons=(f"the reports on {short(revision)} do not exist",))
    decisions = ledger.decisions(ask.project, ask.release)
    if not decisions:
        return Waiting()
    return evaluate_approvals(ask, decisions, policy.rules, authors_of(source, ledger, revision), ledger.clock())


def standing_rejection(source: ProjectRepository, ledger: Ledger, revision: str) -> tuple[str, ...]:
    """The reasons of a rejection of exactly this release, given at any time before it serves production."""
    policy = release_policy(source, ledger, revision)
    if not policy.needed:
        return ()
    found = _evaluate(source, ledger, revision, policy)
    return found.reasons if isinstance(found, Waiting) and found.rejected else ()


def remarks(loosened: Sequence[str], because: str, found: Waiting) -> str:
    """What a person who is asked to decide should know: what is loosened, why they are asked, what was decided."""
    told = [f"it loosens the champion's policy: {', '.join(loosened)}"] if loosened else []
    return "; ".join([*told, *filter(None, [because]), *found.reasons])


def call_for(ask: Ask, found: Waiting, because: str = "") -> str:
    """The message of a release that waits for approval."""
    instead = f"instead of {short(ask.replaces)}" if ask.replaces else "as the first release"
    said = remarks(ask.loosened, because, found)
    return (
        f"waiting for approval: llmops approve {ask.project} --release {short(ask.release)} --reason … (or reject), or "
        "in Dagster's launchpad release_approval with this release and a decision; "
        f"it would serve {ask.environment} {instead}" + (f". {said}" if said else "")
    )


def subject(source: ProjectRepository, ledger: Ledger) -> tuple[str, Request | None]:
    """(revision, request) to decide on: the newest request that waits for an approval, else the release in staging.

    A commit of another branch may wait for a review beside it.

    Raises:
        Refused: there is nothing to decide on.
    """
    project = source.project.name
    waiting = [r for r in ledger.requests(project) if r.status == "waiting"]
    if asked := [r for r in waiting if not (r.waits_for_review or r.waits_for_budget)] or waiting:
        return asked[-1].revision, asked[-1]
    staged, champion = ledger.serving(project, "staging"), ledger.serving(project, "production")
    if staged is None:
        raise Refused(f"no release of {project} waits for approval")
    if champion and champion.release == staged.release:
        raise Refused(
            f"no release of {project} waits for approval: {short(staged.release)} already serves production; "
            f"`llmops rollback {project}` moves traffic back to the release before"
        )
    if not release_policy(source, ledger, staged.revision).needed:
        raise Refused(f"no release of {project} waits for approval: {short(staged.revision)} requires none")
    return staged.revision, None


def required_reason(reason: str) -> str:
    """The reason of a decision.

    Raises:
        Refused: it is empty.
    """
    if not reason.strip():
        raise Refused("a decision needs a reason, which is kept in the ledger")
    return reason.strip()


def decide(
    source: ProjectRepository, ledger: Ledger, choice: Choice, by: str, reason: str, release: str | None = None
) -> Decided:
    """Validates a decision on the waiting release and adds it to the ledger.

    Raises:
        Refused: nothing waits, another release waits, or this person may not decide.
        Conflict: another decision was faster.
    """
    reason = required_reason(reason)
    revision, request = subject(source, ledger)
    if request is not None and (request.waits_for_review or request.waits_for_budget):
        raise Refused(f"{short(revision)} has no release yet, it is {request.detail}")
    policy = release_policy(source, ledger, revision)
    ask = _ask(source, ledger, revision, policy)
    if ask is None:
        raise Refused(f"the reports on {short(revision)} do not exist, so there is nothing to decide on")
    if release is not None and len(release) < 6:
        raise Refused(f"{short(ask.release)} waits for approval: give its digest, or at least its first 6 characters")
    if release is not None and not ask.release.startswith(release):
        raise Refused(f"release {short(release)} does not wait for approval; {short(ask.release)} does")
    if wrong := refusals(choice, by, policy.rules, authors_of(source, ledger, revision)):
        raise Refused("; ".join(wrong))
    decision = Decision(ask=ask, revision=revision, choice=choice, by=by.strip(), reason=reason, at=ledger.clock())
    ledger.decide(decision, request)
    return Decided(decision=decision, request=request)
