"""Gathers the current evidence for a verdict and evaluates it: before each action, and for display.

`llmops_assets.domain.gate` evaluates; it is pure.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from llmops_assets.delivery.approvals import evaluate_current_approval
from llmops_assets.delivery.preferences import gated_preferences, preference_metrics, preference_of
from llmops_assets.delivery.references import Candidate, ChampionNow, baselines, champion_now, references
from llmops_assets.delivery.release_policy import not_on_branch, release_policy
from llmops_assets.delivery.report_reviews import review_state
from llmops_assets.delivery.row_evidence import must_pass_of, rows_of
from llmops_assets.domain.approval import Waiting
from llmops_assets.domain.chain import POLICY
from llmops_assets.domain.gate import judge
from llmops_assets.domain.gate_inputs import Champion, Judged
from llmops_assets.domain.gate_rule import Of
from llmops_assets.domain.images import judge_image, no_image
from llmops_assets.domain.keys import short
from llmops_assets.domain.licences import judge_licences
from llmops_assets.domain.measurement import differences
from llmops_assets.domain.must_pass import judge_rows
from llmops_assets.domain.preference import Preference
from llmops_assets.domain.records import (
    Checkpoint,
    CiReport,
    ContainerImage,
    DatasetVersion,
    EvaluationReport,
    Measured,
    RegisteredModel,
    Release,
    ReleaseApproval,
    ServedEvaluationReport,
    ServedSpeed,
    SmokeTestReport,
)
from llmops_assets.domain.release import release_from_records
from llmops_assets.domain.served_figures import Served, speed_key
from llmops_assets.domain.verdict import Verdict, judge_checks
from resources.ledger import Ledger


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
    return _lacks_preference(run, stage, own)


def _lacks_preference(run: Candidate, stage: str, own: Measured | None) -> bool:
    """Whether a judge has not compared this report with the champion's yet, and a gate asks."""
    champion = champion_now(run)
    beside = champion.report(run, stage, own) if champion and own else None
    if own is None or beside is None or beside.key == own.key:
        return False
    gated = gated_preferences(run.at.config, run.at.policy, of_stage(stage))
    return any(preference_of(run.ledger, run.at.values, name, own, beside) is None for name in gated)


def verdict_on(run: Candidate, stage: str) -> Verdict:
    """The verdict on a stage's record, with the current evidence and the current champion."""
    return JUDGES[stage](run, stage, f"{stage} of {short(run.revision)}")


def _of_ci(run: Candidate, stage: str, subject: str) -> Verdict:
    record = run.resolved.records.get(stage)
    return verdict_on_ci(run, record if isinstance(record, CiReport) else None, subject)


def verdict_on_ci(run: Candidate, report: CiReport | None, subject: str) -> Verdict:
    """The verdict on the checks of the code, and on its licences under the settings' floor of today."""
    verdict = judge_checks(subject, report.key if report else None, report.checks if report else None)
    beyond = judge_licences(report.licences, run.at.policy.ci.licence_floor) if report else ()
    return verdict.model_copy(update={"failures": (*verdict.failures, *beyond)})


def _of_data(run: Candidate, stage: str, subject: str) -> Verdict:
    record = run.resolved.records.get(stage)
    checks = record.checks if isinstance(record, DatasetVersion) else None
    return judge_checks(subject, record.key if record else None, checks)


def _imaged(run: Candidate, stage: str, subject: str) -> Verdict:
    record = run.resolved.records.get(stage)
    return verdict_on_image(run, record if isinstance(record, ContainerImage) else None, subject)


def verdict_on_image(run: Candidate, image: ContainerImage | None, subject: str) -> Verdict:
    """The verdict on an image. Which of its vulnerabilities count depends on the policy and the day."""
    today = datetime.fromtimestamp(run.ledger.clock(), UTC).date()
    return judge_image(subject, image, no_image(run.at.values), run.at.policy.image, today)


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
    review = review_state(run.source, run.ledger, run.revision)
    return review.added_to(again.model_copy(update={"reasons": reasons}))


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
        preferences=_preferences(run, report, champion),
    )
    verdict = judge(subject, run.at.policy.gates, of, evidence)
    if isinstance(record, ServedEvaluationReport):
        verdict = _with_parity(verdict, record)
    verdict = _with_must_pass(run, verdict, report, evidence.champion)
    loosened = release_policy(run.source, run.ledger, run.revision).loosened
    return verdict.model_copy(update={"loosened": loosened})


def _preferences(run: Candidate, report: Measured | None, champion: ChampionNow | None) -> dict[str, Preference | None]:
    """What judges prefer, by metric; None: nobody has judged these two reports."""
    beside = champion.report(run, report.stage, report) if champion and report else None
    names = preference_metrics(run.at.config)
    return {name: preference_of(run.ledger, run.at.values, name, report, beside) for name in names}


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
    "ci_report": _of_ci,
    "container_image": _imaged,
    "dataset_version": _of_data,
    "evaluation_report": _measured,
    "registered_model": _registered,
    "served_evaluation_report": _measured,
    "smoke_test_report": _event,
    "release_approval": _event,
    POLICY: _policy,
}
"""Stage → function that evaluates its record, from (candidate, stage, subject of the verdict)."""
