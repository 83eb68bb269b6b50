"""Reports to Dagster what no run reports: source versions, and the results that a commit reuses without a run.

These are materializations with provenance, so that Dagster marks exactly the outdated assets as such. Runs report their
own results (`llmops_assets.stage.asset`). `delivery.materializations` builds their common metadata and tags.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from llmops_assets.delivery.materializations import READ, VERSION, record_metadata, record_tags, reused_from
from llmops_assets.delivery.run_tags import about_commit
from llmops_assets.delivery.verdict_checks import champion_of, check_fields
from llmops_assets.domain.chain import CHAIN, CHECKS, STAGES, check_names
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.plan import Plan
from llmops_assets.domain.records import Event, Record
from llmops_assets.domain.release import release_from_records
from llmops_assets.domain.verdict import Verdict
from resources.ledger import Ledger
from resources.project_source.revisions import ProjectRepository

CODE, POINTER = "dagster/code_version", "dagster/input_event_pointer"
SUCCEEDED = AssetCheckExecutionRecordStatus.SUCCEEDED
OF_STAGING = ("staging_endpoint", "smoke_test_report", "release_approval")
WRITTEN = ("report", "review")
"""Metadata of a check about the report that it judged."""
CHECKS_READ = 100
DATA_DIFF = "data_diff"
OF_ITS_RUN = ("commit_page", DATA_DIFF)
"""Metadata that is about one run of a record's stage: its commit, and the champion of that moment."""


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
        found = of_it.metadata if of_it else {}
        return {k: v for k, v in found.items() if k not in OF_ITS_RUN and not k.startswith(f"{DATA_DIFF}_")}

    def _told(self, stage: str, key: str) -> Iterator[dg.EventLogRecord]:
        """The materializations of one record, newest first."""
        for told in self.instance.fetch_materializations(dg.AssetKey([self.project, stage]), limit=200).records:
            materialization = told.asset_materialization
            if materialization and (materialization.tags or {}).get(VERSION) == key:
                yield told

    def judged_page(self, stage: str) -> str | None:
        """Address of the report as it was judged last: with the verdict, and the champion of that moment beside it."""
        key = dg.AssetCheckKey(dg.AssetKey([self.project, stage]), CHECKS[stage])
        found = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
        if found is None or found.status not in (SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED):
            return None
        page = found.evaluation.metadata.get("report") if found.evaluation else None
        return str(page.value) if page else None

    def written_for(self, stage: str, check: str, verdict: Verdict) -> dict[str, dg.MetadataValue]:
        """The page and the review of a verdict, from the newest check that showed it with them; empty if none did."""
        key = dg.AssetCheckKey(dg.AssetKey([self.project, stage]), check)
        for record in self.instance.event_log_storage.get_asset_check_execution_history(key, limit=CHECKS_READ):
            shown = record.evaluation  # of one that was planned and did not run, only its name
            if not isinstance(shown, dg.AssetCheckEvaluation) or shown.description != verdict.text:
                continue
            champion = shown.metadata.get("champion")
            same = champion is not None and champion.value == champion_of(verdict)
            found = {name: shown.metadata[name] for name in WRITTEN if name in shown.metadata}
            if same and found:
                return found
        return {}

    def looks_bad(self, stage: str) -> bool:
        """Whether Dagster shows the asset as failed or refused: its run failed, or a check failed or did not run."""
        asset = dg.AssetKey([self.project, stage])
        records = self.instance.get_asset_records([asset])
        entry = records[0].asset_entry if records else None
        last = entry.last_materialization_record if entry else None
        checks = [dg.AssetCheckKey(asset, name) for name in check_names(STAGES[stage])]
        found = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
        if any(check.status != SUCCEEDED for check in found.values()):
            return True
        run = self.instance.get_run_record_by_id(entry.last_run_id) if entry and entry.last_run_id else None
        if run is None or run.dagster_run.status != dg.DagsterRunStatus.FAILURE:
            return False
        return last is None or (last.run_id != run.dagster_run.run_id and last.timestamp < (run.end_time or 0.0))


def seen_events(
    source: ProjectRepository, ledger: Ledger, plan: Plan, history: MaterializationHistory
) -> list[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """Events for the sources and all results that the revision's run omits, if Dagster shows another state.

    Also writes the lineage edges of the omitted results.
    """
    sources = _source_events(source, plan.revision, history)
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
            ledger.record_use(plan.project, plan.revision, record, reused=True)
        now[stage.name] = record.key
        event = _reused_event(source, plan, record, history, now)
        shown = history.tags(stage.name)
        differs = any(shown.get(tag) != value for tag, value in _provenance(event).items())
        if differs or history.looks_bad(stage.name):
            events += [event, *_check_events(source, ledger, plan, record, history)]
    return events


def _check_events(
    source: ProjectRepository, ledger: Ledger, plan: Plan, record: Record, history: MaterializationHistory
) -> list[dg.AssetCheckEvaluation]:
    """The verdicts on a record in the ledger, with the page and review that were written for them; one by another
    commit's gates names that commit.

    Dagster expects its checks for every materialization.
    """
    events = []
    for name in check_names(STAGES[record.stage]):
        ids = dict.fromkeys((record.key, record.outputs.get("", record.key)))
        found = [f for i in ids if (f := ledger.verdict_on(plan.project, f"{record.stage}:{name}", i, plan.revision))]
        for revision, judged_by, verdict in found[:1]:
            # By name only: the mirror may no longer have another commit.
            by = judged_by if revision == plan.revision else f"{judged_by} of {short(revision)}"
            fields = check_fields(source, plan.revision, verdict, by)
            fields["metadata"] = {**history.written_for(record.stage, name, verdict), **fields["metadata"]}
            key = dg.AssetKey([plan.project, record.stage])
            events.append(dg.AssetCheckEvaluation(asset_key=key, check_name=name, **fields))
    return events


def _source_events(
    source: ProjectRepository, revision: str, history: MaterializationHistory
) -> list[dg.AssetMaterialization]:
    about, data = about_commit(source, revision), source.at(revision).values["data"]
    told: dict[str, tuple[str, dict[str, Any]]] = {
        "repository": (revision, about),
        "data": (digest(data), {"versions": dg.MetadataValue.json(data), **about}),
    }
    return [
        dg.AssetMaterialization([source.project.name, name], metadata=metadata, tags={VERSION: version, CODE: "1"})
        for name, (version, metadata) in told.items()
        if history.tags(name).get(VERSION) != version
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
    source: ProjectRepository, plan: Plan, record: Record, history: MaterializationHistory, now: Mapping[str, str]
) -> dg.AssetMaterialization:
    stage = STAGES[record.stage]
    reads = {
        name: version
        for name in (*stage.upstream, *stage.sources)
        if (version := now.get(name) or history.tags(name).get(VERSION))
    }
    return dg.AssetMaterialization(
        [plan.project, stage.name],
        description=reused_from(record).capitalize(),
        metadata={
            **history.metadata(stage.name, record.key),
            **record_metadata(source, plan.revision, record, reused=True),
        },
        tags={
            **record_tags(plan.project, record, reads, reused=True),
            CODE: str(stage.version),
            # Dagster treats an input without a pointer as unknown; the pointer's value matters for partitions only.
            **{f"{POINTER}/{plan.project}/{name}": "NULL" for name in reads},
        },
    )


def _provenance(event: dg.AssetMaterialization) -> dict[str, str]:
    return {tag: value for tag, value in (event.tags or {}).items() if tag.startswith((VERSION, CODE, READ))}
