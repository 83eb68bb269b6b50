"""What a person's decision stands on, gathered anew each time: the ask, the authors, the rules, the earlier decisions.

Used by whoever asks, shows, decides or acts on it: stage, sensor, command line and Dagster's page. The judging is pure
and stands in `domain.approval`.
"""

from llmops_assets.domain.approval import (
    Approved,
    Ask,
    Author,
    Choice,
    Decision,
    Rules,
    Waiting,
    evaluate_approvals,
    refusals,
)
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.release import release_from_records
from llmops_assets.domain.requests import Request
from resources.ledger import Ledger
from resources.project_source.revisions import ProjectRepository

REPORTS = ("evaluation_report", "served_evaluation_report")


class Refused(Exception):
    """This decision cannot be taken so; the message says why, all of it."""


class Decided(Frozen):
    decision: Decision
    request: Request | None
    """The one that waited for it."""


def ask_now(source: ProjectRepository, ledger: Ledger, revision: str) -> Ask | None:
    """What a person would be asked about a revision at this moment; None while it has no release."""
    project, values = source.project.name, source.at(revision).values
    records = ledger.resolve(values).records
    release = release_from_records(project, values, records)
    if release is None or any(s not in records for s in REPORTS):
        return None
    champion, since = ledger.champion_since(project)
    return Ask(
        project=project,
        release=release.digest,
        reports=tuple(records[s].outputs[""] for s in REPORTS),
        replaces=champion,
        since=since,
    )


def authors_of(source: ProjectRepository, ledger: Ledger, revision: str) -> list[Author]:
    """Who wrote what a revision would bring to production."""
    champion = ledger.serving(source.project.name, "production")
    return source.git.authors(revision, champion.revision if champion else None)


def rules_of(source: ProjectRepository, revision: str) -> Rules:
    policy = source.at(revision).config.deployment.approval
    return Rules(approvers=policy.approvers, expires_after=policy.expires_after)


def evaluate_current_approval(source: ProjectRepository, ledger: Ledger, revision: str) -> Approved | Waiting:
    """Whether the release of a revision is approved at this moment."""
    ask = ask_now(source, ledger, revision)
    if ask is None:
        return Waiting(reasons=(f"the reports on {short(revision)} do not exist",))
    decisions = ledger.decisions(ask.project, ask.release)
    if not decisions:
        return Waiting()
    authors = authors_of(source, ledger, revision)
    return evaluate_approvals(ask, decisions, rules_of(source, revision), authors, ledger.clock())


def call_for(ask: Ask, found: Waiting) -> str:
    """The words with which a release waits."""
    instead = f"instead of {short(ask.replaces)}" if ask.replaces else "as the first one"
    said = "; ".join(found.reasons)
    return (
        f"waiting for a person: llmops approve {ask.project} --release {short(ask.release)} --reason … (or reject), or "
        "in Dagster's launchpad release_approval with this release and a decision; "
        f"it would serve {ask.environment} {instead}" + (f". {said}" if said else "")
    )


def subject(source: ProjectRepository, ledger: Ledger) -> tuple[str, Request | None]:
    """(revision, request) that a person can decide on: what waits, else what staging shows.

    Raises:
        Refused: there is nothing to decide on.
    """
    project = source.project.name
    waiting = [r for r in ledger.requests(project) if r.status == "waiting"]
    if waiting:
        return waiting[-1].revision, waiting[-1]
    staged, champion = ledger.serving(project, "staging"), ledger.serving(project, "production")
    if staged is None or (champion and champion.release == staged.release):
        raise Refused(f"nothing of {project} waits for a person")
    if not source.at(staged.revision).config.deployment.approval.needed:
        raise Refused(f"nothing of {project} waits for a person: {short(staged.revision)} asks for no approval")
    return staged.revision, None


def decide(
    source: ProjectRepository, ledger: Ledger, choice: Choice, by: str, reason: str, release: str | None = None
) -> Decided:
    """Takes a person's decision on the release that waits, and adds it to the ledger.

    Raises:
        Refused: nothing waits, another release does, or this person may not decide.
        Conflict: somebody else decided at the same moment.
    """
    if not reason.strip():
        raise Refused("a decision needs a reason: it is kept in the ledger")
    revision, request = subject(source, ledger)
    ask = ask_now(source, ledger, revision)
    if ask is None:
        raise Refused(f"the reports on {short(revision)} do not exist, so there is nothing to decide on")
    if release is not None and len(release) < 6:
        raise Refused(f"{short(ask.release)} waits for a person: name it so, or by its first 6 characters or more")
    if release is not None and not ask.release.startswith(release):
        raise Refused(f"release {short(release)} does not wait for a person; {short(ask.release)} does")
    if request is None and choice == "rejected":
        raise Refused(f"{short(ask.release)} does not wait yet; `llmops cancel` ends the run that is at work on it")
    if wrong := refusals(choice, by, rules_of(source, revision), authors_of(source, ledger, revision)):
        raise Refused("; ".join(wrong))
    decision = Decision(
        ask=ask, revision=revision, choice=choice, by=by.strip(), reason=reason.strip(), at=ledger.clock()
    )
    ledger.decide(decision, request)
    return Decided(decision=decision, request=request)
