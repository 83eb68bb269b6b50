"""ci_report: checks the project's code, configuration and prompts before any expensive work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.ci import (
    JUNIT,
    SARIF,
    all_checks,
    ci_spec,
    in_environment,
    project_environment,
    recorded,
    write_reports,
)
from llmops_assets.delivery.ci_licences import licences_found
from llmops_assets.delivery.gate_evidence import verdict_on_ci
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import CiReport
from llmops_assets.domain.verdict import Verdict
from llmops_assets.programs.runtime.specs import CiResult
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.metadata import checks_metadata
from resources.project_environments.environments import ENVIRONMENTS, ProjectEnvironments
from resources.project_source.errors import SourceError


def make(run: StageExecution) -> CiReport:
    tree = run.source.work_tree(run.revision)
    base, base_tree = _base(run)
    ci, settings = run.at.config.ci, run.settings
    spec = ci_spec(ci, settings.compute, tree, base_tree, short(base) if base else "")
    builds = settings.compute.project_environments and settings.profile == "local"
    environments = ProjectEnvironments(settings.home / ENVIRONMENTS) if builds else None
    with project_environment(ci, tree, environments) as (environment, built):
        done = run.program("ci", in_environment(spec, built))
        result = done.read(CiResult)
        checks = all_checks(spec, environment, built, result)
        licences = licences_found(run.at.config, tree, built)
    write_reports(done.artifact, checks, result)
    artifact = run.store.put(done.artifact)
    return CiReport(
        **run.header,
        checks=recorded(checks),
        base=base or "",
        tools=result.tools,
        licences=licences,
        uri=artifact.uri,
        digest=artifact.digest,
    )


def _base(run: StageExecution) -> tuple[str | None, Path | None]:
    """The commit that production serves and its files: the secrets in it are not new. None: all files are scanned."""
    serving = run.ledger.serving(run.project.name, "production")
    if serving is None:
        return None, None
    try:
        return serving.revision, run.source.work_tree(serving.revision)
    except SourceError as error:
        run.log.warning(f"all files are scanned for secrets, because the commit in production is gone: {error}")
        return None, None


def describe(run: StageExecution, record: CiReport) -> Mapping[str, Any]:
    files = {"sarif": SARIF, "junit": JUNIT} if record.uri else {}
    return {
        **checks_metadata(record.checks),
        **{name: dg.MetadataValue.path(f"{record.uri}/{file}") for name, file in files.items()},
    }


def verdict(run: StageExecution, record: CiReport) -> Verdict:
    return verdict_on_ci(run, record, f"the code of {short(run.revision)}")


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "ci_report",
        make,
        describe,
        kinds={"python", "pytest"},
        judge=verdict,
    )
