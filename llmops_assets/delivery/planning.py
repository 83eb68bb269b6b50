"""Plans a revision: loads the ledger's records and the revision's values for the pure planner."""

from contextlib import suppress

from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.gate_evidence import lacks_comparison, verdict_on
from llmops_assets.delivery.references import PlannedRevision
from llmops_assets.delivery.release_policy import not_on_branch, release_policy
from llmops_assets.delivery.report_reviews import review_state
from llmops_assets.domain.plan import Plan, Side, make_plan
from llmops_assets.domain.records import AnyRecord
from llmops_assets.domain.report_review import Reviewed
from llmops_assets.domain.requests import settled
from llmops_assets.domain.verdict import Verdict
from resources.artifact_store.store import ArtifactStore, StoreDenied
from resources.ledger import Ledger
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository


def base_of(ledger: Ledger, project: str, revision: str) -> str | None:
    """The revision that a plan compares with by default: the last other commit whose request left no change undone."""
    before = settled([r for r in ledger.requests(project) if r.revision != revision])
    return before.revision if before else None


def plan_revision(
    source: ProjectRepository, ledger: Ledger, store: ArtifactStore, revision: str, base: str | None
) -> Plan:
    """The plan of a run at this revision, explained against `base`. Lost or damaged results are recomputed.

    Raises:
        ConfigError, SourceError: the revision cannot be read.
        StoreDenied: the artifact store is not there, or does not answer: what it holds is unknown.
    """
    store.require()
    project = source.project.name
    at = source.at(revision)
    head = Side(revision=revision, values=at.values)
    candidate = planned_revision(source, ledger, store, revision)
    before = None
    if base is not None:
        try:
            values = source.at(base).values
            before = Side(revision=base, values=values, outputs=ledger.resolve(values).outputs)
        except (ConfigError, SourceError):
            before = None  # an unreadable base cannot explain anything; the plan does not need it
    serving = ledger.serving(project, "production")
    held = {hold.release: str(hold) for hold in ledger.holds(project)}
    lost: dict[str, str] = {}

    def find(key: str) -> AnyRecord | None:
        record = ledger.find(key)
        wrong = damage_of(record, store) if record else ledger.unreadable(key)
        if wrong:
            lost[key] = wrong
        return None if wrong else record

    now = serving.release if serving else None
    plan = make_plan(
        project,
        head,
        find,
        before,
        now,
        ledger.salt_of,
        held,
        lost,
        judge=lambda stage: _known_verdict(candidate, stage),
        lacks_comparison=lambda stage: _lacks_comparison(candidate, stage),
        elsewhere=not_on_branch(source, revision),
        review=lambda known: _missing_review(candidate, known),
    )
    floor = [f"the settings' policy floor applies: {text}" for text in at.below_floor]
    return plan.model_copy(update={"policy": (*floor, *release_policy(source, ledger, revision).notes)})


def planned_revision(source: ProjectRepository, ledger: Ledger, store: ArtifactStore, revision: str) -> PlannedRevision:
    """A revision with its results that exist, to judge outside of a run.

    Raises:
        ConfigError, SourceError: the revision cannot be read.
    """
    at = source.at(revision)
    return PlannedRevision(source.project, source, ledger, store, revision, at, ledger.resolve(at.values))


def _known_verdict(candidate: PlannedRevision, stage: str) -> Verdict | None:
    """The verdict on an existing record; None if the run must measure the champion first, or it cannot be read now."""
    try:
        if stage == "registered_model" and lacks_comparison(candidate, "evaluation_report"):
            return None
        if stage == "registered_model":
            state = review_state(candidate.source, candidate.ledger, candidate.revision)
            if state.pending is not None and not state.rejected:
                return None  # it is not refused, but waits
        return verdict_on(candidate, stage)
    except (ConfigError, SourceError):
        return None  # a plan is no lock: the stage that acts reports it


def _missing_review(candidate: PlannedRevision, known: bool) -> str | None:
    """What the review of the evaluation report lacks; None if none is required, or it has led to a registration."""
    with suppress(ConfigError, SourceError):
        state = review_state(candidate.source, candidate.ledger, candidate.revision)
        if state.rules is None or (known and state.settled):
            return None
        if known and isinstance(state.found, Reviewed):
            return state.found.text
        if known and state.rejected:
            return "; ".join(state.rejected)
        return f"its evaluation report waits for review by {state.rules.who}"
    return None


def _lacks_comparison(candidate: PlannedRevision, stage: str) -> bool:
    with suppress(ConfigError, SourceError):
        return lacks_comparison(candidate, stage)
    return False


def damage_of(record: AnyRecord, store: ArtifactStore) -> str | None:
    """Problem found by a quick check of the record's artifact; None if there is none or it is unknown."""
    with suppress(StoreDenied):  # an unreachable store is no damage; stages that read it will report it
        return store.quick_check(record.made) if record.made else None
    return None
