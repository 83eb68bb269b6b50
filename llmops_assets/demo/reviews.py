"""The review of an act's commit, as the page of its verdict shows it."""

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.references import PlannedRevision
from llmops_assets.delivery.review import review_of
from llmops_assets.domain.chain import CHECKS
from llmops_assets.domain.records import Measured
from llmops_assets.domain.review import Review
from resources.assembly import Clients

STAGE = "evaluation_report"


def review_of_commit(clients: Clients, project: ProjectSource, revision: str) -> Review | None:
    """The review of the first verdict on a commit's evaluation report; None if there was none."""
    ledger, source = clients.ledger, clients.sources(project)
    check = f"{STAGE}:{CHECKS[STAGE]}"
    verdict = next((v for _, v in ledger.verdicts(project.name, revision) if v.check == check), None)
    if verdict is None:
        return None
    at = source.at(revision)
    resolved = ledger.resolve(at.values)
    record = resolved.records.get(STAGE)
    if not isinstance(record, Measured):
        return None
    run = PlannedRevision(project, source, ledger, clients.store, revision, at, resolved)
    return review_of(run, record, verdict).review
