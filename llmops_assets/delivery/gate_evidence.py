"""Gathers the current evidence for a verdict and evaluates it: before each action, and for display.

`llmops_assets.domain.gate` evaluates; it is pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.approvals import evaluate_current_approval
from llmops_assets.delivery.release_policy import not_on_branch, release_policy
from llmops_assets.delivery.report_reviews import ReviewState, review_state
from llmops_assets.delivery.row_evidence import must_pass_of, rows_of
from llmops_assets.domain.approval import Waiting
from llmops_assets.domain.chain import POLICY, STAGES
from llmops_assets.domain.gate import Champion, Judged, judge
from llmops_assets.domain.gate_rule import Of
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.measurement import differences
from llmops_assets.domain.must_pass import judge_rows
from llmops_assets.domain.records import (
    Checkpoint,
    CiReport,
    DatasetVersion,
    EvaluationReport,
    Measured,
    QuantizedArtifact,
    RegisteredModel,
    Release,
    ReleaseApproval,
    ServedEvaluationReport,
    ServedSpeed,
    SmokeTestReport,
)
from llmops_assets.domain.release import release_from_records
from llmops_assets.domain.report_review import Reviewed
from llmops_assets.domain.resolution import ResolvedRecords
from llmops_assets.domain.served_figures import Served, speed_key
from llmops_assets.domain.verdict import Verdict, judge_checks
from resources.artifact_store.store import ArtifactStore
from resources.ledger import Ledger
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository, ProjectRevision

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
        salt = f"measured with {digest(like.measured_with)}" if like is not None else None
        return STAGES[stage].key(values, outputs, salt)

    def lost(self, run: Candidate, stage: str) -> str | None:
        """Why it cannot be measured any more; None if it can. Reports that exist can be read all the same."""
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


def of_stage(stage: str) -> Of:
    """What a stage's report is about, in the words of gates."""
    return "checkpoint" if stage in ("evaluation_report", "registered_model") else "served"


def current_release(run: Candidate) -> Release | None:
    """The release of this revision; None while its artifact does not exist."""
    return release_from_records(run.project.name, run.at.values, run.resolved.records)


def release_now(run: Candidate) -> Release:
    """The release of this revision.

    Raises:
        dg.Failure: its artifact does not exist yet.
    """
    found = current_release(run)
    if found is None:
        import dagster as dg  # here, because every command line reads this module, and Dagster costs it a second

        raise dg.Failure(
            f"no quantized artifact of {short(run.revision)} yet; materialize quantized_artifact first",
            allow_retries=False,
        )
    return found


def lacks_comparison(run: Candidate, stage: str) -> bool:
    """Whether a gate needs the champion's or a baseline's report on this revision's rows, and it does not exist yet."""
    if _has_served(run):
        return False
    own = run.resolved.records.get(stage)
    own = own if isinstance(own, Measured) else None
    for other in references(run, of_stage(stage)):
        report = other.report(run, stage, own)
        measurable = other.key(run, stage) is not None and other.lost(run, stage) is None
        if measurable and (report is None or bool(own and differences(own, report))):
            return True
    return False


def compares_with_champion(run: Candidate, of: Of) -> bool:
    """Whether the champion's report is needed: for a gate, or to show its answers to the rows that each must pass."""
    compares = any(g.of == of and g.no_worse_than == "champion" for g in run.at.policy.gates)
    return compares or run.at.policy.must_pass is not None


def verdict_on(run: Candidate, stage: str) -> Verdict:
    """The verdict on a stage's record, with the current evidence and the current champion."""
    return JUDGES[stage](run, stage, f"{stage} of {short(run.revision)}")


def _checked(run: Candidate, stage: str, subject: str) -> Verdict:
    """The verdict on a record of checks."""
    record = run.resolved.records.get(stage)
    checks = record.checks if isinstance(record, CiReport | DatasetVersion) else None
    return judge_checks(subject, record.key if record else None, checks)


def _registered(run: Candidate, stage: str, subject: str) -> Verdict:
    record = run.resolved.records.get(stage)
    checkpoint = run.resolved.records.get("fine_tuned_checkpoint")
    if not isinstance(record, RegisteredModel) or not isinstance(checkpoint, Checkpoint):
        return Verdict(subject=subject, report=None, champion=None, failures=("no registered model version exists",))
    if record.checkpoint_digest != checkpoint.digest:
        return Verdict(
            subject=subject,
            report=record.key,
            champion=None,
            failures=("the registered version is of another checkpoint",),
        )
    # Evaluate the gates again: a version that was registered under looser gates must not pass forever.
    again = _measured(run, "evaluation_report", subject)
    reasons = (f"{record.name} version {record.version} is registered", *again.reasons)
    return with_review(
        again.model_copy(update={"reasons": reasons}), review_state(run.source, run.ledger, run.revision)
    )


def with_review(verdict: Verdict, review: ReviewState) -> Verdict:
    """The verdict with the review of the report, where one is required."""
    if review.rules is None:
        return verdict
    if isinstance(review.found, Reviewed):
        return verdict.model_copy(update={"reasons": (*verdict.reasons, review.found.text)})
    missing = review.found.reasons or (f"nobody has reviewed its report; required: {review.rules.who}",)
    return verdict.model_copy(update={"failures": (*verdict.failures, *missing)})


def _measured(run: Candidate, stage: str, subject: str) -> Verdict:
    record = run.resolved.records.get(stage)
    unquantized = run.resolved.records.get("evaluation_report")
    of, champion = of_stage(stage), champion_now(run)
    report = record if isinstance(record, Measured) else None
    before = unquantized if isinstance(unquantized, EvaluationReport) else None
    evidence = Judged(
        report=report,
        rows=rows_of(run.store, report),
        unquantized=before,
        unquantized_rows=rows_of(run.store, before) if of == "served" else None,
        champion=_reference(run, stage, champion, report) if champion else None,
        served=served_figures(run.ledger, report),
        baselines={name: _reference(run, stage, found, report) for name, found in baselines(run, of).items()},
        has_served=_has_served(run),
    )
    verdict = judge(subject, run.at.policy.gates, of, evidence)
    if isinstance(record, ServedEvaluationReport):
        verdict = _with_parity(verdict, record)
    verdict = _with_must_pass(run, verdict, report, evidence.champion)
    loosened = release_policy(run.source, run.ledger, run.revision).loosened
    return verdict.model_copy(update={"loosened": loosened})


def _reference(run: Candidate, stage: str, other: ChampionNow, report: Measured | None) -> Champion:
    found = other.report(run, stage, report)
    lost = other.lost(run, stage) if found is None else None
    hardware = report.made_by.hardware if report is not None else ""
    return Champion(
        release=other.release,
        report=found,
        rows=rows_of(run.store, found),
        lost=lost,
        served=served_figures(run.ledger, found, hardware),
    )


def served_figures(ledger: Ledger, report: Measured | None, hardware: str | None = None) -> Served | None:
    """Size and speed of a served report; the speed on this hardware class, by default where the report was made."""
    if not isinstance(report, ServedEvaluationReport):
        return None
    there = report.made_by.hardware if hardware is None else hardware
    speed = ledger.find(speed_key(there, report.key))
    load = speed.load if isinstance(speed, ServedSpeed) else ()
    return Served(size_bytes=report.size_bytes, hardware=there, load=load)


def _has_served(run: Candidate) -> bool:
    release = current_release(run)
    return bool(release and run.ledger.has_served(run.project.name, release.digest))


def _with_parity(verdict: Verdict, record: ServedEvaluationReport) -> Verdict:
    """Adds token parity, which is always a gate."""
    if record.parity_rows == 0:
        return verdict.model_copy(update={"failures": (*verdict.failures, "token parity was not checked")})
    if record.parity_mismatches:
        differ = f"{record.parity_mismatches} of {record.parity_rows} rows"
        text = f"the engine's tokens differ on {differ}: {record.parity_detail}"
        return verdict.model_copy(update={"failures": (*verdict.failures, text)})
    reason = f"token ids equal those of training on {record.parity_rows} rows"
    return verdict.model_copy(update={"reasons": (*verdict.reasons, reason)})


def _with_must_pass(run: Candidate, verdict: Verdict, report: Measured | None, champion: Champion | None) -> Verdict:
    """Adds the rows that each must pass, which are a gate of their own."""
    policy = run.at.policy.must_pass
    if policy is None or report is None:
        return verdict
    beside = must_pass_of(run.store, champion.report) if champion else None
    failures, reasons = judge_rows(policy, must_pass_of(run.store, report), beside or ())
    update = {"failures": (*verdict.failures, *failures), "reasons": (*verdict.reasons, *reasons)}
    return verdict.model_copy(update=update)


def _event(run: Candidate, stage: str, subject: str) -> Verdict:
    """The verdict on the newest smoke test report or approval of this release at this revision."""
    release = current_release(run)
    record = run.ledger.records_of(run.project.name, run.revision).get(stage)
    if release is None or not isinstance(record, SmokeTestReport | ReleaseApproval) or record.release != release.digest:
        text = f"no {stage} for the release of {short(run.revision)}"
        return Verdict(subject=subject, report=None, champion=None, failures=(text,))
    if isinstance(record, SmokeTestReport):
        return judge_checks(subject, record.key, record.checks)
    champion = run.ledger.serving(run.project.name, "production")
    now = champion.release if champion else None
    policy = release_policy(run.source, run.ledger, run.revision)
    if policy.needed and (now != record.release or policy.guarded):
        # The record says that it was approved at that time. Whether the decision is still valid is evaluated now.
        found = evaluate_current_approval(run.source, run.ledger, run.revision)
        if isinstance(found, Waiting):
            failures = found.reasons or ("nobody has approved it",)
            return Verdict(subject=subject, report=record.key, champion=now, failures=failures)
    if record.replaces != now and now != record.release:
        given, serves = short(record.replaces or "nothing"), short(now or "nothing")
        text = f"it was given to replace {given}, but production now serves {serves}"
        return Verdict(subject=subject, report=record.key, champion=now, failures=(text,))
    return Verdict(subject=subject, report=record.key, champion=now, reasons=(f"{record.decision}: {record.reason}",))


def _policy(run: Candidate, stage: str, subject: str) -> Verdict:
    """The verdict on what the revision itself says: whether it may be deployed, under which policy."""
    champion = run.ledger.serving(run.project.name, "production")
    policy = release_policy(run.source, run.ledger, run.revision)
    elsewhere = not_on_branch(run.source, run.revision)
    than = (
        f"at least as strict as the champion's ({short(champion.revision)})"
        if champion
        else "not compared: no champion"
    )
    reasons = [*(f"the settings' policy floor applies: {text}" for text in run.at.below_floor)]
    reasons += [policy.because] if policy.because else []
    reasons += [] if policy.loosened else [f"policy {than}"]
    return Verdict(
        subject=subject,
        report=None,
        champion=champion.release if champion else None,
        failures=(elsewhere,) if elsewhere else (),
        reasons=tuple(reasons),
        loosened=policy.loosened,
    )


JUDGES: Mapping[str, Callable[[Candidate, str, str], Verdict]] = {
    "ci_report": _checked,
    "dataset_version": _checked,
    "evaluation_report": _measured,
    "registered_model": _registered,
    "served_evaluation_report": _measured,
    "smoke_test_report": _event,
    "release_approval": _event,
    POLICY: _policy,
}
"""Stage → function that evaluates its record, from (candidate, stage, subject of the verdict)."""
