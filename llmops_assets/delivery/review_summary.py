"""What a person decides by, as data: verdicts with all reasons, figures beside the champion's, regressions, authors,
and the commands that decide. `llmops review` prints it.

`llmops_assets.delivery.review` gathers the review of each report, which the pages show too; nothing here judges.
"""

from typing import Literal

from pydantic import Field

from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.approvals import authors_of, current_ask, evaluate_current_approval
from llmops_assets.delivery.gate_evidence import current_release, verdict_on
from llmops_assets.delivery.planning import planned_revision
from llmops_assets.delivery.references import PlannedRevision
from llmops_assets.delivery.release_policy import release_policy
from llmops_assets.delivery.report_reviews import decide_commands, review_state
from llmops_assets.delivery.review import review_of
from llmops_assets.domain.approval import Waiting
from llmops_assets.domain.chain import COMPARED
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import Measured
from llmops_assets.domain.release import release_from_records
from llmops_assets.domain.report_review import Reviewed
from llmops_assets.domain.review import Link, Review
from llmops_assets.programs.evaluation.report import PAGE
from resources.assembly import Clients
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository

RECENT = 100
"""Requests among which a report is looked up by its digest."""


class ReportSummary(Frozen):
    """One evaluation report, and what a person asks about the verdict on it now."""

    digest: str
    made_by: str = Field(description="The commit whose run measured it.")
    page: str = Field(description="The report's page, on this machine.")
    review: Review


class Decidable(Frozen):
    """What people decide: whether the report is good enough to register, or the release to serve."""

    what: Literal["review", "approval"]
    required: bool
    state: Literal["not required", "not yet", "waiting", "rejected", "approved"]
    who: str = Field(description="Who may decide.")
    reasons: tuple[str, ...]
    approve: str = ""
    reject: str = ""


class ReviewSummary(Frozen):
    """Everything that a reviewer or an approver of one commit sees."""

    project: str
    revision: str
    subject: str
    authors: tuple[str, ...] = Field(description="Of all commits since the champion's. They cannot approve it.")
    reports: tuple[ReportSummary, ...]
    staging: str | None = Field(description="Where its release answers; None while staging does not serve it.")
    loosened: tuple[str, ...]
    decisions: tuple[Decidable, ...]


def summarize(clients: Clients, source: ProjectRepository, revision: str) -> ReviewSummary:
    """The summary of a commit's reports; `reports` is empty while there are none.

    Raises:
        ConfigError, SourceError: the revision cannot be read.
        StoreError: a report's artifact is lost or damaged.
    """
    ledger = clients.ledger
    candidate = planned_revision(source, ledger, clients.store, revision)
    records = candidate.resolved.records
    return ReviewSummary(
        project=source.project.name,
        revision=revision,
        subject=source.git.message(revision),
        authors=tuple(dict.fromkeys(f"{a.name} <{a.email}>" for a in authors_of(source, ledger, revision))),
        reports=tuple(
            _report(clients, candidate, record)
            for stage in COMPARED
            if isinstance(record := records.get(stage), Measured)
        ),
        staging=clients.serving.base_url(source.project.name, "staging") if _is_staged(candidate) else None,
        loosened=release_policy(source, ledger, revision).loosened,
        decisions=(_review(clients, source, revision), _approval(clients, source, revision)),
    )


def _is_staged(candidate: PlannedRevision) -> bool:
    staged, release = candidate.ledger.serving(candidate.project.name, "staging"), current_release(candidate)
    return staged is not None and release is not None and staged.release == release.digest


def revision_of_report(clients: Clients, source: ProjectRepository, digest_or_prefix: str) -> str | None:
    """The newest requested commit whose evaluation report or release this is; None if there is none."""
    if len(digest_or_prefix) < 6:
        return None
    ledger, project = clients.ledger, source.project.name
    for revision in dict.fromkeys(r.revision for r in reversed(ledger.requests(project)[-RECENT:])):
        try:
            values = source.at(revision).values
        except (ConfigError, SourceError):
            continue  # a commit that cannot be read any more has nothing to decide on
        records = ledger.resolve(values).records
        release = release_from_records(project, values, records)
        digests = [records[stage].outputs[""] for stage in COMPARED if stage in records]
        if any(found.startswith(digest_or_prefix) for found in [*digests, *([release.digest] if release else [])]):
            return revision
    return None


def _report(clients: Clients, candidate: PlannedRevision, record: Measured) -> ReportSummary:
    tracking, project = clients.tracking, candidate.project.name
    mlflow_run = tracking.find(project, record.key)
    url = tracking.run_url(project, mlflow_run) if mlflow_run else None
    links = [Link(name="MLflow run", url=url)] if url else []
    return ReportSummary(
        digest=record.digest,
        made_by=record.made_by.revision,
        page=str(clients.store.fetch(record.uri) / PAGE),
        review=review_of(candidate, record, verdict_on(candidate, record.stage), links).review,
    )


def _review(clients: Clients, source: ProjectRepository, revision: str) -> Decidable:
    state = review_state(source, clients.ledger, revision)
    if state.rules is None:
        return Decidable(what="review", required=False, state="not required", who="", reasons=())
    told = {"what": "review", "required": True, "who": state.rules.who}
    if state.ask is None:
        return Decidable(**told, state="not yet", reasons=state.pending.reasons if state.pending else ())
    approve, reject = decide_commands(source.project.name, state.ask.report)
    because = tuple(filter(None, [state.because]))
    if isinstance(state.found, Reviewed):
        return Decidable(**told, state="approved", reasons=(state.found.text,), reject=reject)
    standing = "rejected" if state.found.rejected else "waiting"
    return Decidable(**told, state=standing, reasons=(*because, *state.found.reasons), approve=approve, reject=reject)


def _approval(clients: Clients, source: ProjectRepository, revision: str) -> Decidable:
    policy = release_policy(source, clients.ledger, revision)
    if not policy.needed:
        return Decidable(what="approval", required=False, state="not required", who="", reasons=())
    who = ", ".join(policy.rules.approvers) or "a person who is no author of the change"
    told = {"what": "approval", "required": True, "who": who}
    ask = current_ask(source, clients.ledger, revision)
    if ask is None:
        return Decidable(**told, state="not yet", reasons=("its release does not exist yet",))
    found = evaluate_current_approval(source, clients.ledger, revision)
    options = f"{ask.project} --release {short(ask.release)} --reason WHY"
    approve, reject = f"llmops approve {options}", f"llmops reject {options}"
    if isinstance(found, Waiting):
        reasons = (*filter(None, [policy.because]), *found.reasons)
        standing = "rejected" if found.rejected else "waiting"
        return Decidable(**told, state=standing, reasons=reasons, approve=approve, reject=reject)
    said = f"approved by {found.decision.by}: {found.decision.reason}"
    return Decidable(**told, state="approved", reasons=(said,), reject=reject)
