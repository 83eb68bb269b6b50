"""What a revision is compared with: what production serves now, baselines that gates name, registered models."""

from dataclasses import dataclass
from typing import Protocol

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.preferences import gated_preferences
from llmops_assets.domain.chain import STAGES
from llmops_assets.domain.gate_rule import Of
from llmops_assets.domain.keys import digest
from llmops_assets.domain.measurement import differences
from llmops_assets.domain.records import Checkpoint, Measured, QuantizedArtifact, RegisteredModel
from llmops_assets.domain.resolution import ResolvedRecords
from resources.artifact_store.store import ArtifactStore
from resources.ledger import Ledger
from resources.project_source.errors import SourceError
from resources.project_source.resolved_revision import ProjectRevision
from resources.project_source.revisions import ProjectRepository

MOST_VERSIONS = 10_000
"""The newest model versions among which one is looked up by its number."""


class Candidate(Protocol):
    """The revision that is judged: the execution of a stage, or a plan."""

    project: ProjectSource
    source: ProjectRepository
    ledger: Ledger
    store: ArtifactStore
    revision: str
    at: ProjectRevision
    resolved: ResolvedRecords


@dataclass
class PlannedRevision:
    """A candidate outside of any run."""

    project: ProjectSource
    source: ProjectRepository
    ledger: Ledger
    store: ArtifactStore
    revision: str
    at: ProjectRevision
    resolved: ResolvedRecords


class ChampionNow:
    """The release that production serves now, or a baseline, with its records."""

    def __init__(self, run: Candidate, release: str, revision: str, called: str = "champion"):
        self.release, self.revision, self.called = release, revision, called
        self.at: ProjectRevision = run.source.at(revision, served=True)
        records = run.ledger.records_of(run.project.name, revision)
        checkpoint, artifact = records.get("fine_tuned_checkpoint"), records.get("quantized_artifact")
        self.checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else None
        self.artifact = artifact if isinstance(artifact, QuantizedArtifact) else None

    def key(self, run: Candidate, stage: str, like: Measured | None = None) -> str | None:
        """The key of the champion's report on *this* revision's test rows and metrics, with its own prompt.

        With `like`, of the report that was made because an earlier one was measured differently than this one.
        """
        of = self.checkpoint if stage == "evaluation_report" else self.artifact
        if of is None or "dataset_version.test" not in run.resolved.outputs:
            return None
        values = {**run.at.values, "prompt": self.at.values["prompt"], "engine": self.at.values["engine"]}
        read = "fine_tuned_checkpoint" if stage == "evaluation_report" else "quantized_artifact"
        outputs = {read: of.outputs[""], "dataset_version.test": run.resolved.outputs["dataset_version.test"]}
        also = {name: run.resolved.outputs.get(name) for name, value in STAGES[stage].records_if if values.get(value)}
        outputs |= {name: found for name, found in also.items() if found is not None}
        if None in also.values():
            return None  # the image in which its metrics would run does not exist yet
        salt = f"measured with {digest(like.measured_with)}" if like is not None else None
        return STAGES[stage].key(values, outputs, salt)

    def lost(self, run: Candidate, stage: str) -> str | None:
        """Why it cannot be measured any more; None if it can. Reports that exist can still be read."""
        needed = [self.checkpoint, *([] if stage == "evaluation_report" else [self.artifact])]
        for record in needed:
            why = run.ledger.unreadable(record.key) if record is not None else "it has no trained checkpoint"
            if why:
                return why
        return None

    def report(self, run: Candidate, stage: str, like: Measured | None = None) -> Measured | None:
        """The champion's report; the one that was measured as `like` was, if there are several."""
        found = self._find(run, self.key(run, stage))
        if found is None or like is None or not differences(like, found):
            return found
        return self._find(run, self.key(run, stage, like)) or found

    @staticmethod
    def _find(run: Candidate, key: str | None) -> Measured | None:
        found = run.ledger.find(key) if key else None
        return found if isinstance(found, Measured) else None


def champion_now(run: Candidate) -> ChampionNow | None:
    serving = run.ledger.serving(run.project.name, "production")
    return ChampionNow(run, serving.release, serving.revision) if serving else None


def baseline(run: Candidate, name: str) -> ChampionNow | None:
    """The release that a gate names: by its digest, or by the commit that made it; None if there is none."""
    found = find_baseline(run.source, run.ledger, name)
    return ChampionNow(run, found[1], found[0], "baseline") if found else None


def registered(run: Candidate, name: str) -> ChampionNow | None:
    """A registered model: by its version in the registry, its release, or the commit that made it."""
    project = run.project.name
    if name.isdecimal() and len(name) < 6:
        models = run.ledger.recent(project, "registered_model", MOST_VERSIONS)
        made = next((m for m in models if isinstance(m, RegisteredModel) and str(m.version) == name), None)
        return ChampionNow(run, made.checkpoint_digest, made.made_by.revision, "model") if made else None
    found = find_baseline(run.source, run.ledger, name)
    return ChampionNow(run, found[1], found[0], "model") if found else None


def find_baseline(source: ProjectRepository, ledger: Ledger, name: str) -> tuple[str, str] | None:
    """(revision, its release or else the revision again) of a baseline that a gate names; None if there is none."""
    found = ledger.revision_of_release(source.project.name, name)
    if found is not None:
        return found
    try:
        revision = source.git.resolve(name)
    except SourceError:
        return None
    return (revision, revision) if ledger.records_of(source.project.name, revision) else None


def references(run: Candidate, of: Of) -> list[ChampionNow]:
    """The champion and the baselines that gates on this kind of report compare with, as far as they exist."""
    champion = champion_now(run) if compares_with_champion(run, of) else None
    return [*([champion] if champion else []), *baselines(run, of).values()]


def baselines(run: Candidate, of: Of) -> dict[str, ChampionNow]:
    """The baselines that gates on this kind of report name, as far as they exist, by the name that the gates use."""
    named = dict.fromkeys(g.baseline for g in run.at.policy.gates if g.of == of and g.baseline)
    return {name: found for name in named if name and (found := baseline(run, name)) is not None}


def compares_with_champion(run: Candidate, of: Of) -> bool:
    """Whether the champion's report is needed: for a gate, or to show its answers to the rows that each must pass."""
    compares = any(g.of == of and g.no_worse_than == "champion" for g in run.at.policy.gates)
    gated = gated_preferences(run.at.config, run.at.policy, of)
    return compares or bool(gated) or run.at.policy.must_pass is not None
