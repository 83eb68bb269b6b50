"""The three sensors of a project: on Git, on DVC, and the one that carries on. Thin shells over `domain.requests`."""

from typing import Any, Literal

import dagster as dg

from llmops_assets.domain.changes import Change, changes
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.plan import Plan
from llmops_assets.domain.requests import (
    Decision,
    Head,
    Note,
    Request,
    Skip,
    Start,
    Supersede,
    next_request,
    planned,
    settled,
)
from llmops_assets.project import ConfigError
from llmops_assets.settings import ProjectSource, Settings
from resources.git import SourceError
from resources.ledger import Conflict, Ledger
from resources.planning import plan_revision
from resources.source import Source
from sensors.carry_on import build_carry_on_sensor
from sensors.runs import end_work, run_request

Owner = Literal["git", "dvc"]
NEEDS = {"settings", "ledger", "sources", "serving", "compute"}


def look(source: Source, requests: list[Request]) -> Head:
    """The branch as it is now; whatever is wrong with it is a reason, never an exception, and never an empty branch."""
    try:
        source.git.fetch()
        revision = source.git.head()
    except SourceError as error:
        return Head(revision=None, problem=str(error))
    if revision is None:
        return Head(revision=None, problem=f"branch {source.project.branch!r} is gone from {source.project.repository}")
    known = planned(requests)
    if known and known[-1].revision == revision:
        return Head(revision=revision)
    before = settled(known)
    base = before.revision if before else None
    try:
        at = source.at(revision)
        if missing := source.missing_data(at):
            return Head(
                revision=revision,
                problem=f"waits for data: {', '.join(missing)} is not in the DVC remote yet; run `dvc push`",
            )
    except (ConfigError, SourceError) as error:
        return Head(revision=revision, problem=str(error))
    found: tuple[Change, ...] | None = None
    files: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    if base is not None:
        seen = {r.revision for r in requests}
        passed_over = tuple(c for c in source.git.between(base, revision) if c not in seen)
        files = tuple(source.git.changed_files(base, revision))
        try:
            found = changes(source.at(base).values, at.values)
        except (ConfigError, SourceError):
            found = changes({}, at.values)  # the base was taken over from another repository: everything is new
    cancels = at.config.on_newer == "cancel"
    return Head(revision=revision, found=found, files=files, passed_over=passed_over, cancels=cancels)


def source_events(source: Source, owner: Owner, revision: str) -> list[dg.AssetMaterialization]:
    """What the sensor saw, as a materialization of the source, so that Dagster marks exactly its readers."""
    at = source.at(revision)
    metadata: dict[str, Any]
    if owner == "git":
        version, metadata = (
            revision,
            {"commit": revision, "subject": source.git.message(revision), "author": source.git.author(revision)},
        )
    else:
        version = digest(at.values["data"])
        metadata = {"versions": dg.MetadataValue.json(at.values["data"]), "commit": revision}
    name = "repository" if owner == "git" else "data"
    return [
        dg.AssetMaterialization(
            [source.project.name, name],
            metadata=metadata,
            tags={"dagster/data_version": version, "dagster/code_version": "1"},
        )
    ]


def reused_events(source: Source, ledger: Ledger, plan: Plan, shown: "Shown") -> list[dg.AssetMaterialization]:
    """For stages that a run leaves out: the record that this revision stands on, where Dagster shows another one.

    Also writes their lineage edges.
    """
    events = []
    for stage in plan.stages:
        if stage.action != "reuse" or stage.key is None:
            continue
        record = ledger.find(stage.key)
        if record is None:
            continue
        ledger.demand(plan.project, plan.revision, record, reused=True)
        if shown(stage.stage) != record.key:
            events.append(
                dg.AssetMaterialization(
                    [plan.project, stage.stage],
                    description=f"Reused from {short(record.made_by.revision)}",
                    metadata={
                        **shown.metadata(stage.stage, record.key),
                        "commit": plan.revision,
                        "key": record.key,
                        "seconds": 0.0,
                        "made_by": f"reused from {short(record.made_by.revision)}, run {record.made_by.run_id[:8]}",
                    },
                    tags={"dagster/data_version": record.key, "reused": "true"},
                )
            )
    return events


class Shown:
    """What Dagster shows of a project's assets now, and what it was told of them before."""

    def __init__(self, instance: dg.DagsterInstance, project: str):
        self.instance, self.project = instance, project

    def __call__(self, stage: str) -> str | None:
        """The data version of the newest materialization."""
        event = self.instance.get_latest_materialization_event(dg.AssetKey([self.project, stage]))
        materialization = event.asset_materialization if event else None
        return (materialization.tags or {}).get("dagster/data_version") if materialization else None

    def metadata(self, stage: str, key: str) -> dict[str, Any]:
        """What was said of the record when it was computed: its figures go on in the asset's plots."""
        asset = dg.AssetKey([self.project, stage])
        for record in self.instance.fetch_materializations(asset, limit=200).records:
            materialization = record.asset_materialization
            if materialization and (materialization.tags or {}).get("dagster/data_version") == key:
                return dict(materialization.metadata)
        return {}


def shown_version(instance: dg.DagsterInstance, project: str) -> Shown:
    return Shown(instance, project)


def build_source_sensor(project: ProjectSource, job: Any, settings: Settings, owner: Owner) -> dg.SensorDefinition:
    """Watches the branch for the changes that this sensor owns."""
    what = "data" if owner == "dvc" else "code, configuration, prompts"

    @dg.sensor(
        name=f"{project.group}_{owner}",
        job=job,
        minimum_interval_seconds=settings.poll,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts a run when a commit of {project.name} changes {what}.",
        required_resource_keys=NEEDS,
    )
    def _sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        ledger, source = context.resources.ledger, context.resources.sources(project)
        decision = _decide(ledger, source)
        if isinstance(decision, Supersede):
            if not ledger.close(decision.request, "superseded", decision.detail):
                return dg.SkipReason(f"{short(decision.request.revision)} ended by itself; looking again")
            ended = end_work(context.instance, context.resources, project, decision.request, decision.detail)
            context.log.info(f"ended {short(decision.request.revision)}: {decision.detail}; {ended or 'no program'}")
            decision = _decide(ledger, source)
        if isinstance(decision, Skip | Supersede):
            return dg.SkipReason(decision.reason if isinstance(decision, Skip) else decision.detail)
        return _act(context, source, ledger, decision)

    def _decide(ledger: Ledger, source: Source) -> Decision:
        requests = ledger.requests(project.name)
        return next_request(requests, look(source, requests), owner, ledger.holds(project.name))

    def _act(context: Any, source: Source, ledger: Ledger, decision: Start | Note) -> dg.SensorResult | dg.SkipReason:
        sha = short(decision.revision)
        try:
            if isinstance(decision, Note):
                ledger.open_request(
                    project.name, decision.revision, decision.generation, decision.reason, status="skipped"
                )
                return dg.SensorResult(
                    skip_reason=dg.SkipReason(f"{sha}: {decision.reason}"),
                    asset_events=source_events(source, owner, decision.revision),
                )
            plan = plan_revision(source, ledger, decision.revision, decision.base)
            request = ledger.open_request(
                project.name, decision.revision, decision.generation, decision.reason, base=decision.base
            )
        except Conflict as error:
            return dg.SkipReason(f"{sha}: another sensor or `llmops run` was first: {error}")
        events = source_events(source, owner, decision.revision)
        events += reused_events(source, ledger, plan, shown_version(context.instance, project.name))
        if plan.nothing_to_do:
            why = plan["production_endpoint"].reasons[0]
            ledger.close(request, "done", why)
            return dg.SensorResult(
                skip_reason=dg.SkipReason(f"{sha}: {decision.reason}: nothing to do, {why}"), asset_events=events
            )
        return dg.SensorResult(run_requests=[run_request(project, request, plan.to_materialize)], asset_events=events)

    return _sensor


def build_sensors(project: ProjectSource, job: Any, settings: Settings) -> list[dg.SensorDefinition]:
    return [
        build_source_sensor(project, job, settings, "git"),
        build_source_sensor(project, job, settings, "dvc"),
        build_carry_on_sensor(project, job, settings),
    ]


__all__ = ["build_sensors", "look", "reused_events", "shown_version", "source_events"]
