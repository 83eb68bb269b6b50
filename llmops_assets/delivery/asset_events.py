"""Reports to Dagster what no run reports: source versions, and the results that a commit reuses without a run.

These are materializations with provenance, so that Dagster marks exactly the outdated assets as such. Runs report their
own results (`llmops_assets.stage.asset`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from llmops_assets.delivery.run_tags import about_commit
from llmops_assets.domain.chain import CHAIN, STAGES
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.plan import Plan
from llmops_assets.domain.records import Event, Record
from llmops_assets.domain.release import release_from_records
from resources.ledger import Ledger
from resources.project_source.revisions import ProjectRepository

VERSION, CODE = "dagster/data_version", "dagster/code_version"
READ, POINTER = "dagster/input_data_version", "dagster/input_event_pointer"
OF_STAGING = ("staging_endpoint", "smoke_test_report", "release_approval")


class MaterializationHistory:
    """Dagster's materializations of a project's assets, current and earlier."""

    def __init__(self, instance: dg.DagsterInstance, project: str):
        self.instance, self.project = instance, project

    def tags(self, name: str) -> Mapping[str, str]:
        """The tags of the newest materialization."""
        event = self.instance.get_latest_materialization_event(dg.AssetKey([self.project, name]))
        materialization = event.asset_materialization if event else None
        return (materialization.tags or {}) if materialization else {}

    def metadata(self, stage: str, key: str) -> dict[str, Any]:
        """The metadata reported when the record was computed, so that its figures continue in the asset's plots."""
        told = next(self._told(stage, key), None)
        of_it = told.asset_materialization if told else None
        return {k: v for k, v in of_it.metadata.items() if k != "commit_page"} if of_it else {}

    def verdicts(self, stage: str, key: str) -> list[dg.AssetCheckEvaluation]:
        """The record's check evaluations in its newest run: Dagster expects them for every materialization."""
        asset = dg.AssetKey([self.project, stage])
        run_id = next((told.run_id for told in self._told(stage, key) if told.run_id), None)
        if run_id is None:
            return []
        entries = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        said = [e.dagster_event.event_specific_data for e in entries if e.dagster_event]
        return [
            dg.AssetCheckEvaluation(
                asset_key=asset,
                check_name=one.check_name,
                passed=one.passed,
                metadata=one.metadata,
                severity=one.severity,
                description=one.description,
            )
            for one in said
            if isinstance(one, dg.AssetCheckEvaluation) and one.asset_key == asset
        ]

    def _told(self, stage: str, key: str) -> Iterator[dg.EventLogRecord]:
        """The materializations of one record, newest first."""
        for told in self.instance.fetch_materializations(dg.AssetKey([self.project, stage]), limit=200).records:
            materialization = told.asset_materialization
            if materialization and (materialization.tags or {}).get(VERSION) == key:
                yield told

    def failed_since(self, stage: str) -> bool:
        """Whether the stage's last run failed, so that Dagster shows the asset as failed."""
        records = self.instance.get_asset_records([dg.AssetKey([self.project, stage])])
        entry = records[0].asset_entry if records else None
        run = self.instance.get_run_record_by_id(entry.last_run_id) if entry and entry.last_run_id else None
        if entry is None or run is None or run.dagster_run.status != dg.DagsterRunStatus.FAILURE:
            return False
        last = entry.last_materialization_record
        return last is None or (last.run_id != run.dagster_run.run_id and last.timestamp < (run.end_time or 0.0))


def seen_events(
    source: ProjectRepository, ledger: Ledger, plan: Plan, shown: MaterializationHistory
) -> list[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """Events for the sources and all results that the revision's run omits, if Dagster shows another state.

    Also writes the lineage edges of the omitted results.
    """
    sources = _source_events(source, plan.revision, shown)
    events: list[dg.AssetMaterialization | dg.AssetCheckEvaluation] = list(sources)
    standing = _standing(source, ledger, plan)
    now = {e.asset_key.path[-1]: (e.tags or {})[VERSION] for e in sources}
    now |= {s.stage: s.key for s in plan.stages if s.key}
    for stage in CHAIN:
        if plan[stage.name].action != "reuse" or stage.name in plan.to_materialize:
            continue
        key = plan[stage.name].key
        record = ledger.find(key) if key else standing.get(stage.name)
        if record is None:
            continue
        if stage.kind == "work":
            ledger.demand(plan.project, plan.revision, record, reused=True)
        elif not shown.failed_since(stage.name):
            continue
        now[stage.name] = record.key
        event = _reused_event(source, plan, record, shown, now)
        is_shown = shown.tags(stage.name)
        if stage.kind == "event" or any(is_shown.get(tag) != value for tag, value in _provenance(event).items()):
            events += [event, *shown.verdicts(stage.name, record.key)]
    return events


def _source_events(
    source: ProjectRepository, revision: str, shown: MaterializationHistory
) -> list[dg.AssetMaterialization]:
    about, data = about_commit(source, revision), source.at(revision).values["data"]
    told: dict[str, tuple[str, dict[str, Any]]] = {
        "repository": (revision, about),
        "data": (digest(data), {"versions": dg.MetadataValue.json(data), **about}),
    }
    return [
        dg.AssetMaterialization([source.project.name, name], metadata=metadata, tags={VERSION: version, CODE: "1"})
        for name, (version, metadata) in told.items()
        if shown.tags(name).get(VERSION) != version
    ]


def _standing(source: ProjectRepository, ledger: Ledger, plan: Plan) -> dict[str, Record]:
    """The event records that are still valid: those of this revision's release, if production serves it."""
    serving, staged = (ledger.serving(plan.project, e) for e in ("production", "staging"))
    if serving is None:
        return {}
    values = source.at(plan.revision).values
    release = release_from_records(plan.project, values, ledger.resolve(values).records)
    if release is None or release.digest != serving.release:
        return {}
    return {
        name: record
        for name, record in ledger.records_of(plan.project, serving.revision).items()
        if isinstance(record, Event)
        and record.release == serving.release
        and (name not in OF_STAGING or (staged is not None and staged.release == serving.release))
    }


def _reused_event(
    source: ProjectRepository, plan: Plan, record: Record, shown: MaterializationHistory, now: Mapping[str, str]
) -> dg.AssetMaterialization:
    stage = STAGES[record.stage]
    reads = {
        name: version
        for name in (*stage.upstream, *stage.sources)
        if (version := now.get(name) or shown.tags(name).get(VERSION))
    }
    return dg.AssetMaterialization(
        [plan.project, stage.name],
        description=reused_from(record).capitalize(),
        metadata={
            **shown.metadata(stage.name, record.key),
            "made_by": reused_from(record),
            "seconds": 0.0,
            **about_commit(source, plan.revision),
            "key": record.key,
        },
        tags={
            VERSION: record.key,
            CODE: str(stage.version),
            **{f"{READ}/{plan.project}/{name}": version for name, version in reads.items()},
            # Dagster treats an input without a pointer as unknown; the pointer's value matters for partitions only.
            **{f"{POINTER}/{plan.project}/{name}": "NULL" for name in reads},
            "reused": "true",
        },
    )


def _provenance(event: dg.AssetMaterialization) -> dict[str, str]:
    return {tag: value for tag, value in (event.tags or {}).items() if tag.startswith((VERSION, CODE, READ))}


def reached_at(base_url: str) -> dict[str, Any]:
    """Metadata with an endpoint's address. The base URL is not a page itself; its list of models is."""
    return {"base_url": base_url, "models_page": dg.MetadataValue.url(f"{base_url}/models")}


def reused_from(record: Record) -> str:
    """Which commit and run made a reused record, as text."""
    return f"reused from {short(record.made_by.revision)}, run {record.made_by.run_id[:8]}"
