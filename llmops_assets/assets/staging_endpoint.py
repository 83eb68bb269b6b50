"""staging_endpoint: serves the release on the staging URL."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from llmops_assets.assets.deploy_shared import deploy
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.gate_evidence import release_now, verdict_on
from llmops_assets.delivery.materializations import reached_at
from llmops_assets.delivery.rollout import retire_others
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import StagingEndpoint
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import StageExecution


def make(run: StageExecution) -> StagingEndpoint:
    release = release_now(run)
    run.ledger.add_release(release, run.revision)
    deploy(run, "staging", release)
    # The ledger first: traffic follows it, also after an interruption.
    run.ledger.serve(run.project.name, "staging", release.digest, run.revision)
    run.serving.route(run.project.name, "staging", {release.digest: 1.0})
    retire_others(run.serving, run.project.name, "staging", [release.digest], run.settings.serving.drain)
    url = run.serving.base_url(run.project.name, "staging")
    return StagingEndpoint(**run.header, release=release.digest, base_url=url)


def describe(run: StageExecution, record: StagingEndpoint) -> Mapping[str, Any]:
    return {"release": short(record.release), **reached_at(record.base_url)}


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "staging_endpoint",
        make,
        describe,
        kinds={"llamacpp", "envoy"},
        require=verdict_on,
    )
