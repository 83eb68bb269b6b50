"""The asset around every stage: pins the revision, resolves records, checks requirements, reuses or computes, commits,
writes the lineage edge, and reports to Dagster.

`llmops_assets.assets` implements the stages; `llmops_assets.domain.chain` declares what each reads and requires.
Nothing here is specific to a stage.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.gate_evidence import lacks_comparison
from llmops_assets.delivery.materializations import record_metadata, record_tags
from llmops_assets.delivery.run_tags import about_commit
from llmops_assets.domain.chain import CHECKS, COMPARED, EVIDENCE_CHECK, HEAVY, STAGES, Stage, check_names, judges_of
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import AnyRecord, Record
from llmops_assets.domain.verdict import Verdict
from llmops_assets.stage.before_computing import before_computing
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.launch_config import EvaluationConfig, StageConfig
from llmops_assets.stage.mlflow_mirror import mirror_outcome
from llmops_assets.stage.outcomes import end_request, faults, outcomes
from llmops_assets.stage.rejections import AwaitingApproval, OverBudget, Rejected
from llmops_assets.stage.verdicts import Require, check_result, judge_required, note, show_judged
from resources.assembly import RESOURCE_KEYS, Clients
from resources.run_launching.kubernetes_pods import step_tags

Make = Callable[[StageExecution], Record]
Describe = Callable[[StageExecution, Any], Mapping[str, Any]]


def stage_asset(
    project: ProjectSource,
    settings: Settings,
    name: str,
    make: Make,
    describe: Describe,
    *,
    kinds: set[str],
    judge: Callable[[StageExecution, Any], Verdict] | None = None,
    require: Require | None = None,
    before: Callable[[StageExecution], None] | None = None,
    after: Callable[[StageExecution, Any], None] | None = None,
    waits: bool = False,
    config_type: type[StageConfig] = StageConfig,
) -> dg.AssetsDefinition:
    """The software-defined asset of a stage.

    Args:
        make: does the work and returns the record to commit; only called if no record exists under the key.
        describe: metadata of a record, for the UI.
        judge: the verdict to show as the stage's asset check. Informational: stages that act evaluate it again.
        require: evaluates the verdict of a required stage now.
        before: called each time before the record is computed or reused, if the required verdicts pass.
        after: called with the record each time, computed or reused.
        waits: whether `make` or `before` may raise AwaitingApproval: then there is no record, downstream stages are
            skipped, and the stage's check has the reason. When a stage refuses, its check `evidence` has the reasons.
        config_type: the config for Dagster's launchpad.
    """
    stage = STAGES[name]
    key = dg.AssetKey([project.name, name])
    judges = judges_of(name)
    told = "The verdict, with all its reasons. " + (
        f"Informational; {', '.join(judges)} evaluate{'' if len(judges) > 1 else 's'} it again, and refuse"
        f"{'' if len(judges) > 1 else 's'} to act if it fails."
        if judges
        else "No stage depends on it."
    )
    about = {EVIDENCE_CHECK: _what_is_required(stage)}
    specs = [dg.AssetCheckSpec(check, asset=key, description=about.get(check, told)) for check in check_names(stage)]
    upstream = [dg.AssetKey([project.name, up]) for up in (*stage.upstream, *stage.sources)]

    @dg.asset(
        name=name,
        key_prefix=[project.name],
        deps=upstream,
        description=stage.does,
        group_name=project.group,
        kinds=kinds,
        owners=list(project.owners) or None,
        code_version=str(stage.version),
        check_specs=specs,
        required_resource_keys=set(RESOURCE_KEYS),
        pool=project.group,
        op_tags={
            **({"llmops/heavy": "true"} if name in HEAVY else {}),
            **step_tags(settings.kubernetes if settings.steps_have_pods else None, name),
        },
        # A stage that refuses ends without an output: downstream stages are skipped, and nothing looks like a crash.
        # So does one that waits because its run costs more than the budget.
        output_required=False,
    )
    def _asset(context: dg.AssetExecutionContext, config: config_type) -> Iterator[Any]:  # type: ignore[valid-type]
        project = Clients.of(context.resources).settings.project(context.assets_def.key.path[0])
        with faults(context, project, stage):
            run = StageExecution(context, project, stage, config)
            with outcomes(run):
                missing = run.resolved.missing_for(stage)
                if missing:
                    raise dg.Failure(
                        f"{', '.join(missing)} of {short(run.revision)} must exist first. Remedy: materialize it, or "
                        f"`llmops run {project.name} --revision {short(run.revision)}`",
                        allow_retries=False,
                    )
                judged, evidence = judge_required(run, require)
                try:
                    if evidence is not None and not evidence.passed:
                        run.reject(evidence)
                    if before is not None:
                        before(run)
                    record, reused = _reuse_or_make(run, make)
                except AwaitingApproval as why:
                    assert waits or isinstance(why, OverBudget), f"{name} never waits"
                    yield from _wait(run, evidence, why)
                    return
                except Rejected as rejected:
                    yield from _refuse(run, judged, rejected.verdict)
                    return
                run.ledger.record_use(project.name, run.revision, record, reused)
                if after is not None:
                    after(run, record)
                verdicts = {CHECKS[name]: note(run, name, judge(run, record))} if judge is not None else {}
                if evidence is not None:
                    verdicts[EVIDENCE_CHECK] = evidence
                for check, verdict in verdicts.items():
                    say = run.log.info if verdict.passed else run.log.warning
                    say(f"{check}: {verdict.outcome}: {verdict.text}")
                # Before production has moved, writing pages to MLflow would only delay a revert by seconds.
                show_judged(run, judged, pages=name == "production_endpoint")
                yield _materialize(run, record, reused, describe(run, record), verdicts)

    return _asset


def _reuse_or_make(run: StageExecution, make: Make) -> tuple[AnyRecord, bool]:
    if run.stage.kind == "work":
        found = run.ledger.find(run.key)
        if found is not None and (wrong := run.store.quick_check(found.made) if found.made else None):
            run.drop(found, wrong)
        elif found is not None:
            run.log.info(f"reused: made by {short(found.made_by.revision)}, its inputs have not changed")
            measures = run.stage.name in COMPARED and lacks_comparison(run, run.stage.name)
            if measures or (isinstance(run.config, EvaluationConfig) and run.config.model):
                before_computing(run)  # another model is measured on the same rows
            return found, True
        elif unreadable := run.ledger.unreadable(run.key):
            run.log.warning(f"{unreadable}; it is recomputed")
        before_computing(run)
    record = make(run)
    committed = run.commit(record)
    return committed, committed.made_by.run_id != run.run_id


def _what_is_required(stage: Stage) -> str:
    return (
        f"The verdicts on {', '.join(stage.requires)}, as {stage.name} evaluated them before it acted. If one fails, "
        "the stage refuses: the run ends without a result of this stage, and its outcome is `rejected`."
    )


def _wait(run: StageExecution, evidence: Verdict | None, why: AwaitingApproval) -> Iterator[dg.AssetCheckResult]:
    """Ends the stage without a result. Dagster requires all of its checks, even without an output."""
    run.log.warning(str(why))
    run.conclude(why.outcome, str(why))
    mirror_outcome(run, why.outcome, str(why))
    if run.stage.name in CHECKS:
        yield _not_judged(run, str(why), why.metadata)
    if evidence is not None:
        yield check_result(run, EVIDENCE_CHECK, evidence)


def _not_judged(
    run: StageExecution, why: str, more: Mapping[str, dg.MetadataValue] | None = None
) -> dg.AssetCheckResult:
    """The stage's own check, without a result that it could judge."""
    return dg.AssetCheckResult(
        check_name=CHECKS[run.stage.name],
        asset_key=dg.AssetKey([run.project.name, run.stage.name]),
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"reasons": dg.MetadataValue.md(why), **(more or {}), **about_commit(run.source, run.revision)},
        description=why,
    )


def _refuse(run: StageExecution, judged: Mapping[str, Verdict], verdict: Verdict) -> Iterator[dg.AssetCheckResult]:
    """Ends the stage with its reasons and without a result. Its step succeeds, and downstream steps are skipped."""
    text = "; ".join(verdict.against)
    run.log.warning(f"{run.stage.name} refuses: {text}")
    if not verdict.check:
        verdict = note(run, run.stage.name, verdict, EVIDENCE_CHECK)
    end_request(run, "rejected", f"{run.stage.name}: {text}")
    show_judged(run, judged, pages=True)
    mirror_outcome(run, "rejected")
    yield check_result(run, EVIDENCE_CHECK, verdict)
    if run.stage.name in CHECKS:
        yield _not_judged(run, f"refused: {text}")


def _materialize(
    run: StageExecution, record: AnyRecord, reused: bool, metadata: Mapping[str, Any], verdicts: Mapping[str, Verdict]
) -> dg.MaterializeResult[Any]:
    reads = {name: found.key for name, found in run.resolved.records.items() if name in run.stage.upstream}
    return dg.MaterializeResult(
        asset_key=dg.AssetKey([run.project.name, run.stage.name]),
        data_version=dg.DataVersion(record.key),
        metadata={
            **run.program_metadata,
            **metadata,
            **record_metadata(run.source, run.revision, record, reused=reused),
        },
        tags=record_tags(run.project.name, record, reads, reused=reused),
        check_results=[check_result(run, name, verdict, record) for name, verdict in verdicts.items()],
    )
