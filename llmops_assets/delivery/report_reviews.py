"""Gathers the current evidence for reviews of evaluation reports (ask, authors, rules) and records decisions.

Used by the stage registered_model, the sensor, the CLI and Dagster's launchpad. `llmops_assets.domain.report_review`
evaluates the evidence; `delivery.approvals` does the same for releases, and `delivery.review` gathers what people read.
"""

from collections.abc import Iterator

from llmops_assets.delivery.approvals import Refused, authors_of, remarks, required_reason
from llmops_assets.delivery.release_policy import release_policy
from llmops_assets.domain.approval import Author, Choice, Waiting, refusals
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import Checkpoint, EvaluationReport
from llmops_assets.domain.report_review import (
    Registration,
    ReviewAsk,
    ReviewDecision,
    Reviewed,
    ReviewRules,
    evaluate_reviews,
)
from llmops_assets.domain.requests import WAITS_FOR_REVIEW, Request, newest_planned
from llmops_assets.domain.verdict import Verdict
from resources.ledger import Ledger
from resources.project_source.revisions import ProjectRepository


class ReviewState(Frozen):
    """What is known of the review of a revision's evaluation report."""

    rules: ReviewRules | None
    """None: no review is required."""
    because: str = ""
    """Why a review is required, if its own llmops.yaml is not the reason."""
    ask: ReviewAsk | None = None
    """None: the report does not exist."""
    found: Reviewed | Waiting
    authors: tuple[Author, ...] = ()

    @property
    def pending(self) -> Waiting | None:
        """What is missing; None if nothing is."""
        return self.found if self.rules is not None and isinstance(self.found, Waiting) else None

    @property
    def rejected(self) -> tuple[str, ...]:
        """The reasons of a rejection of exactly this report; empty if there is none."""
        return self.pending.reasons if self.pending is not None and self.pending.rejected else ()

    @property
    def settled(self) -> bool:
        """Whether registered_model need not act for it: no review is required, or it has led to a registration."""
        return self.rules is None or (isinstance(self.found, Reviewed) and self.found.registered)

    def added_to(self, verdict: Verdict) -> Verdict:
        """The verdict with this review, where one is required."""
        if self.rules is None:
            return verdict
        if isinstance(self.found, Reviewed):
            return verdict.model_copy(update={"reasons": (*verdict.reasons, self.found.text)})
        missing = self.found.reasons or (f"nobody has reviewed its report; required: {self.rules.who}",)
        return verdict.model_copy(update={"failures": (*verdict.failures, *missing)})


def review_state(source: ProjectRepository, ledger: Ledger, revision: str) -> ReviewState:
    """The review of the revision's evaluation report as it stands now."""
    policy = release_policy(source, ledger, revision)
    rules, because = policy.review, policy.review_because
    if rules is None:
        return ReviewState(rules=None, found=Reviewed())
    records = ledger.resolve(source.at(revision).values).records
    report, checkpoint = records.get("evaluation_report"), records.get("fine_tuned_checkpoint")
    if not isinstance(report, EvaluationReport) or not isinstance(checkpoint, Checkpoint):
        missing = Waiting(reasons=(f"the evaluation report of {short(revision)} does not exist",))
        return ReviewState(rules=rules, because=because, found=missing)
    ask = ReviewAsk(
        project=source.project.name, report=report.digest, checkpoint=checkpoint.digest, loosened=policy.loosened
    )
    authors = tuple(authors_of(source, ledger, revision))
    decisions, registrations = ledger.reviews(ask.project, ask.report)
    found = evaluate_reviews(ask, decisions, registrations, rules, authors, ledger.clock())
    return ReviewState(rules=rules, because=because, ask=ask, found=found, authors=authors)


def standing_review_rejection(source: ProjectRepository, ledger: Ledger, revision: str) -> tuple[str, ...]:
    """The reasons of a rejection of exactly this report, given at any time before its release serves production."""
    return review_state(source, ledger, revision).rejected


def note_registration(ledger: Ledger, revision: str, state: ReviewState) -> None:
    """Records that the reviews led to a registration, unless they already have."""
    if isinstance(state.found, Reviewed) and state.ask is not None and not state.settled:
        by = tuple(decision.by for decision in state.found.decisions)
        ledger.registered(Registration(ask=state.ask, revision=revision, by=by, at=ledger.clock()))


def decide_commands(project: str, report: str) -> tuple[str, str]:
    """The commands that accept and reject a report."""
    options = f"{project} --report {short(report)} --reason WHY"
    return f"llmops approve {options}", f"llmops reject {options}"


def call_for_review(state: ReviewState, revision: str) -> str:
    """The message of a model that waits for the review of its report."""
    ask, rules, pending = state.ask, state.rules, state.pending
    assert ask is not None and rules is not None and pending is not None
    approve, _ = decide_commands(ask.project, ask.report)
    authors = ", ".join(dict.fromkeys(author.email for author in state.authors))
    who = rules.who + (f" ({authors})" if authors and not rules.approvers else "")
    said = remarks(ask.loosened, state.because, pending)
    return (
        f"{WAITS_FOR_REVIEW} of evaluation report {short(ask.report)} by {who}: `llmops review {ask.project} "
        f"{short(revision)}` prints it; decide with `{approve}` (or reject), or in Dagster's launchpad of "
        "registered_model with this report and a decision" + (f". {said}" if said else "")
    )


class ReviewDecided(Frozen):
    decision: ReviewDecision
    request: Request | None
    """The request that waited for the decision."""
    state: ReviewState
    """The review after the decision."""

    @property
    def why(self) -> str:
        """Why its request continues; empty if it does not yet."""
        return self.state.found.text if isinstance(self.state.found, Reviewed) else ""


def to_review(
    source: ProjectRepository, ledger: Ledger, report: str | None = None
) -> tuple[str, Request | None, ReviewState]:
    """(revision, request, state) to decide on: what waits for review; with `report`, also what was reviewed before.

    Raises:
        Refused: there is nothing to decide on.
    """
    project, seen = source.project.name, list[str]()
    if report is not None and len(report) < 6:
        raise Refused("give the report's digest, or at least its first 6 characters")
    for revision, request in _candidates(source, ledger):
        state = review_state(source, ledger, revision)
        if state.rules is None or state.ask is None:
            continue
        if report is not None and state.ask.report.startswith(report):
            _refuse_if_served(source, ledger, revision)
            return revision, request if request is not None and request.status == "waiting" else None, state
        if state.pending is not None and request is not None and request.status == "waiting":
            if report is None:
                return revision, request, state
            seen.append(short(state.ask.report))
    if report is not None and seen:
        raise Refused(f"report {short(report)} does not wait for review; {', '.join(seen)} does")
    what = f"report {short(report)} of {project} does not wait" if report else f"no report of {project} waits"
    raise Refused(f"{what} for review")


def _candidates(source: ProjectRepository, ledger: Ledger) -> Iterator[tuple[str, Request | None]]:
    """(revision, request) whose report can be decided on, most urgent first."""
    project = source.project.name
    requests = ledger.requests(project)
    open_ = [r for r in reversed(requests) if r.status == "waiting"] + [r for r in requests if r.active]
    yield from ((request.revision, request) for request in open_)
    seen = {request.revision for request in open_}
    newest, staged = newest_planned(requests), ledger.serving(project, "staging")
    for revision in dict.fromkeys([*([newest.revision] if newest else []), *([staged.revision] if staged else [])]):
        if revision not in seen:
            yield revision, None


def _refuse_if_served(source: ProjectRepository, ledger: Ledger, revision: str) -> None:
    champion = ledger.serving(source.project.name, "production")
    if champion is not None and champion.revision == revision:
        raise Refused(
            f"{short(revision)} already serves production; `llmops rollback {source.project.name}` moves traffic back"
        )


def decide_review(
    source: ProjectRepository, ledger: Ledger, choice: Choice, by: str, reason: str, report: str | None = None
) -> ReviewDecided:
    """Validates a decision on an evaluation report and adds it to the ledger.

    Raises:
        Refused: nothing waits, another report waits, or this person may not decide.
        Conflict: another decision was faster.
    """
    reason = required_reason(reason)
    revision, request, state = to_review(source, ledger, report)
    assert state.ask is not None and state.rules is not None
    if wrong := refusals(choice, by, state.rules, state.authors):
        raise Refused("; ".join(wrong))
    decision = ReviewDecision(
        ask=state.ask, revision=revision, choice=choice, by=by.strip(), reason=reason, at=ledger.clock()
    )
    ledger.review(decision, request)
    return ReviewDecided(decision=decision, request=request, state=review_state(source, ledger, revision))
