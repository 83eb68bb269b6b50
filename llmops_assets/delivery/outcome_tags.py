"""What MLflow shows of a project's revisions: released, waiting, rejected or rolled back, as the ledger has it.

A run tags its own outcome (`llmops_assets.stage.mlflow_mirror`). What is decided outside of it, by a rejection at a
terminal or a rollback, reaches MLflow by the reconciler.
"""

from collections.abc import Mapping

from llmops_assets.domain.chain import COMPARED
from llmops_assets.domain.records import RegisteredModel
from resources.assembly import Clients
from resources.ledger import Ledger
from resources.tracking.mlflow import COMMIT_TAG, OUTCOME_TAG

NEWEST = 10
"""Requests and servings whose outcome may still change."""
OF_A_REQUEST = ("waiting", "released", "rejected")


def outcomes_now(ledger: Ledger, project: str) -> dict[str, str]:
    """Revision → outcome, for the newest requests and servings. What has served keeps that, unless it is held."""
    newest = [r for r in ledger.requests(project) if not r.by_hand and r.status in OF_A_REQUEST][-NEWEST:]
    found = {request.revision: str(request.status) for request in newest}
    served = [(release, revision) for release, revision, _ in ledger.served(project)][-NEWEST:]
    held = {hold.release for hold in ledger.holds(project)}
    found |= {revision: "rolled_back" if release in held else "released" for release, revision in served}
    return found | ({served[-1][1]: "released"} if served else {})


def tag_outcomes(clients: Clients, project: str, outcomes: Mapping[str, str]) -> None:
    """Tags the evaluations and the model versions that show these revisions; those of a newer commit stay."""
    tracking, registry = clients.tracking, clients.registry
    for revision, outcome in outcomes.items():
        records, tags = clients.ledger.records_of(project, revision), {OUTCOME_TAG: outcome}
        for stage in COMPARED:
            record = records.get(stage)
            run = tracking.find(project, record.key) if record else ""
            if run and tracking.tags(run).get(COMMIT_TAG) == revision:
                tracking.tag(run, tags)
        model = records.get("registered_model")
        shown = registry.tags(model.name, model.version) if isinstance(model, RegisteredModel) else {}
        if isinstance(model, RegisteredModel) and shown.get(COMMIT_TAG) == revision:
            registry.tag(model.name, model.version, tags)
