"""The asset around every stage: pins the revision, resolves records, checks requirements, reuses or computes, commits,
writes the lineage edge, and reports to Dagster.

`llmops_assets.assets` implements the stages; `llmops_assets.domain.chain` declares what each reads and requires.
Nothing here is specific to a stage.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg

from llmops_assets.config.settings import ProjectSource, Settings
from llmops_assets.delivery.asset_events import reused_from
from llmops_assets.delivery.run_tags import about_commit
from llmops_assets.domain.chain import HEAVY, STAGES, judges_of
from llmops_assets.domain.gate import Verdict
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import AnyRecord, Record
from llmops_assets.stage.execution import AwaitingApproval, StageConfig, StageExecution
from llmops_assets.stage.outcomes import faults, outcomes
from resources.assembly import RESOURCE_KEYS
from resources.run_launching.kubernetes_pods import step_tags

Make = Callable[[StageExecution], Record]
Describe = Callable[[StageExecution, Any], Mapping[str, Any]]
Require = Callable[[StageExecution, str], Verdict]


def stage_asset(
    project: ProjectSource,
    settings: Settings,
    name: str,
    make: Make,
    describe: Describe,
    *,
    kinds: set[str],
    checks: Mapping[str, Callable[[StageExecution, Any], Verdict]] | None = None,
    require: Require | None = None,
    after: Callable[[StageExecution, Any], None] | None = None,
    waits: str | None = None,
    config_type: type[StageConfig] = StageConfig,
) -> dg.AssetsDefinition:
    """The software-defined asset of a stage.

    Args:
        make: does the work and returns the record to commit; only called if no record exists under the key.
        describe: metadata of a record, for the UI.
        checks: name → the verdict to show as an asset check. Informational: stages that act evaluate it again.
        require: evaluates the verdict of a required stage now.
        after: called with the record each time, computed or reused.
        waits: the check that reports it when `make` raises AwaitingApproval: then there is no record, and downstream
            stages are skipped.
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
    specs = [dg.AssetCheckSpec(check, asset=key, description=told) for check in checks or {}]
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
        output_required=waits is None,
    )
    def _asset(context: dg.AssetExecutionContext, config: config_type) -> Iterator[Any]:  # type: ignore[valid-type]
        with faults(context, project, stage):
            run = StageExecution(context, project, stage, config)
            with outcomes(run):
                missing = run.demand.missing_for(stage)
                if missing:
                    raise dg.Failure(
                        f"{', '.join(missing)} of {short(run.revision)} must exist first. Remedy: materialize it, or "
                        f"`llmops run {project.name} --revision {short(run.revision)}`",
                        allow_retries=False,
                    )
                for up in stage.requires:
                    assert require is not None, f"{name} requires {up} but has no `require`"
                    verdict = require(run, up)
                    run.ledger.add_verdict(project.name, run.revision, name, verdict)
                    if not verdict.passed:
                        run.reject(verdict)
                try:
                    record, reused = _reuse_or_make(run, make)
                except AwaitingApproval as why:
                    assert waits is not None, f"{name} has no check for `waits`"
                    yield _wait(run, waits, str(why))
                    return
                run.ledger.demand(project.name, run.revision, record, reused)
                if after is not None:
                    after(run, record)
                verdicts = {check: judge(run, record) for check, judge in (checks or {}).items()}
                for check, verdict in verdicts.items():
                    say = run.log.info if verdict.passed else run.log.warning
                    say(f"{check}: {'passed' if verdict.passed else 'failed'}: {verdict.text}")
                yield _materialize(run, record, reused, describe(run, record), verdicts)

    return _asset


def _reuse_or_make(run: StageExecution, make: Make) -> tuple[AnyRecord, bool]:
    if run.stage.kind == "work":
        found = run.ledger.find(run.key)
        if found is not None and (wrong := run.store.quick_check(found.made) if found.made else None):
            run.drop(found, wrong)
        elif found is not None:
            run.log.info(f"reused: made by {short(found.made_by.revision)}, its inputs have not changed")
            return found, True
        elif unreadable := run.ledger.unreadable(run.key):
            run.log.warning(f"{unreadable}; it is recomputed")
    record = make(run)
    committed = run.commit(record)
    return committed, committed.made_by.run_id != run.run_id


def _wait(run: StageExecution, check: str, why: str) -> dg.AssetCheckResult:
    run.log.warning(why)
    if run.request is not None:
        run.ledger.close(run.request, "waiting", why)
    return dg.AssetCheckResult(
        check_name=check,
        asset_key=dg.AssetKey([run.project.name, run.stage.name]),
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"reasons": dg.MetadataValue.md(why), **about_commit(run.source, run.revision)},
        description=why,
    )


def _materialize(
    run: StageExecution, record: AnyRecord, reused: bool, metadata: Mapping[str, Any], verdicts: Mapping[str, Verdict]
) -> dg.MaterializeResult[Any]:
    common: dict[str, Any] = {
        "made_by": reused_from(record) if reused else "this run",
        "seconds": 0.0 if reused else record.made_by.seconds,
        **about_commit(run.source, run.revision),
        "key": record.key,
    }
    tags = {
        f"dagster/input_data_version/{run.project.name}/{name}": upstream.key
        for name, upstream in run.demand.records.items()
        if name in run.stage.upstream
    }
    return dg.MaterializeResult(
        asset_key=dg.AssetKey([run.project.name, run.stage.name]),
        data_version=dg.DataVersion(record.key),
        metadata={**run.program_metadata, **metadata, **common},
        tags={**tags, **({"reused": "true"} if reused else {})},
        check_results=[
            dg.AssetCheckResult(
                check_name=name,
                asset_key=dg.AssetKey([run.project.name, run.stage.name]),
                passed=verdict.passed,
                severity=dg.AssetCheckSeverity.ERROR,
                metadata={"reasons": dg.MetadataValue.md(verdict.markdown())},
                description=verdict.text,
            )
            for name, verdict in verdicts.items()
        ],
    )
