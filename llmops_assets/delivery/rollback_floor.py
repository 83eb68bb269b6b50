"""What the settings' policy floor asks of a rollback's target: its gates, and a person who may decide.

A release that served before the floor was raised has met neither. Only the ledger and the settings are read: a
rollback works without the mirror and without MLflow.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.row_evidence import rows_of
from llmops_assets.domain.approval import Author, Decision, Rules, is_author, refusals
from llmops_assets.domain.gate import judge
from llmops_assets.domain.gate_inputs import Judged
from llmops_assets.domain.keys import short
from llmops_assets.domain.policy import NO_POLICY, Policy
from llmops_assets.domain.policy_floor import with_floor
from llmops_assets.domain.records import EvaluationReport, Measured
from resources.artifact_store.store import ArtifactStore
from resources.assembly import Clients
from resources.ledger import Ledger
from resources.project_source.errors import SourceError


def target_below_floor(
    clients: Clients, project: ProjectSource, target: str, revision: str, by: str, warn: Callable[[str], None]
) -> list[str]:
    """What of the settings' policy floor a rollback's target does not satisfy, if `by` rolls back to it.

    Raises:
        StoreError: its reports cannot be read.
    """
    ledger, name = clients.ledger, project.name
    floor = floor_of(clients.settings, name)
    found = failed_floor_gates(floor, ledger, clients.store, name, revision)
    serving = ledger.serving(name, "production")
    try:
        authors = clients.sources(project).git.authors(revision, serving.revision if serving else None)
    except SourceError as error:
        warn(f"the authors of {short(revision)} are unknown ({error})")
        authors = []
    person = missing_person(floor, target, ledger.decisions(name, target), by, authors)
    return [*found, *([person] if person else [])]


def floor_of(settings: Settings, project: str) -> Policy:
    """The least that every release of the project must satisfy, whatever its commit says."""
    return reduce(with_floor, settings.floors(project), NO_POLICY)


def failed_floor_gates(floor: Policy, ledger: Ledger, store: ArtifactStore, project: str, revision: str) -> list[str]:
    """The floor's gates that the recorded reports of a served revision do not satisfy, as text.

    Like every release that served before, it is judged by absolute gates and those on its quantization only.
    """
    records = ledger.records_of(project, revision)
    checkpoint = records.get("evaluation_report")
    before = checkpoint if isinstance(checkpoint, EvaluationReport) else None
    found: list[str] = []
    for of, stage in (("checkpoint", "evaluation_report"), ("served", "served_evaluation_report")):
        gates = [gate for gate in floor.gates if gate.of == of]
        record = records.get(stage)
        report = record if isinstance(record, Measured) else None
        if gates:
            evidence = Judged(
                report=report,
                rows=rows_of(store, report),
                unquantized=before,
                unquantized_rows=rows_of(store, before) if of == "served" else None,
                has_served=True,
            )
            found += judge(f"{stage} of {short(revision)}", gates, gates[0].of, evidence).against
    return found


def missing_person(
    floor: Policy, release: str, decisions: Sequence[Decision], by: str, authors: Iterable[Author]
) -> str | None:
    """Why the floor's condition on people is not met; None if it is.

    A person who may approve the release has approved it before, or is the one who rolls back to it.

    Args:
        decisions: those on the release, oldest first; the last one counts.
    """
    if not floor.approval.needed:
        return None
    rules = Rules(approvers=floor.approval.approvers, expires_after=floor.approval.expires_after, where="the settings")
    people = tuple(authors)
    approved = decisions[-1:] if decisions and decisions[-1].choice == "approved" else ()
    if any(not refusals("approved", person, rules, people) for person in (by, *(d.by for d in approved))):
        return None
    named = f"one of {', '.join(rules.approvers)}" if rules.approvers else "a person who is not its author"
    why = "is an author of it" if is_author(by, people) else "is none of them"
    return f"{named} must approve each release; nobody did so for {short(release)}, and {by} {why}"
