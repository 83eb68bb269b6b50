"""staging_endpoint and production_endpoint: releases behind stable URLs; production by a rollout that is judged.

How traffic moves belongs in `llmops_assets.delivery.rollout`; what is judged before it may, in `evidence`.
"""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from llmops_assets.config.project import ProjectConfig
from llmops_assets.config.settings import ProjectSource, Settings
from llmops_assets.delivery.rollout import Rollout, retire_others
from llmops_assets.domain.gate import Verdict
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import (
    DatasetVersion,
    ProductionEndpoint,
    QuantizedArtifact,
    RegisteredModel,
    Release,
    StagingEndpoint,
)
from llmops_assets.domain.requests import newest_planned
from llmops_assets.domain.rollout import begin
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import DeployConfig, StageRun
from llmops_assets.stage.gate_evidence import release_now, verdict_on
from resources.compute.local import BadInput
from resources.ledger import Conflict
from resources.project_source.revisions import ProjectRevision
from resources.serving.local.serving import ServingError

CANARY_TOKENS = 64
HELD_OUT_ROWS = 64


def _deploy(run: StageRun, environment: str, release: Release) -> None:
    artifact = run.record(QuantizedArtifact, "quantized_artifact")
    file = run.fetch(artifact) / release.file
    sha256 = run.store.sha256(artifact.uri, release.file)
    try:
        run.serving.deploy(run.project.name, environment, release, file, run.log.info, sha256)
    except ServingError as error:
        raise BadInput(str(error)) from error


# -- staging --------------------------------------------------------------------------------------------------------


def make_staging(run: StageRun) -> StagingEndpoint:
    release = release_now(run)
    run.ledger.add_release(release, run.revision)
    _deploy(run, "staging", release)
    run.serving.route(run.project.name, "staging", {release.digest: 1.0})
    run.ledger.serve(run.project.name, "staging", release.digest, run.revision)
    retire_others(run.serving, run.project.name, "staging", [release.digest], run.settings.serving.drain)
    url = run.serving.base_url(run.project.name, "staging")
    return StagingEndpoint(**run.header, release=release.digest, base_url=url)


def describe_staging(run: StageRun, record: StagingEndpoint) -> Mapping[str, Any]:
    return {"release": short(record.release), **reached_at(record.base_url)}


def reached_at(base_url: str) -> dict[str, Any]:
    """Where an endpoint is. Its base URL is for clients, and answers nobody else; the list of its models is a page."""
    return {"base_url": base_url, "models_page": dg.MetadataValue.url(f"{base_url}/models")}


def build_staging(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "staging_endpoint",
        make_staging,
        describe_staging,
        kinds={"llamacpp", "envoy"},
        require=verdict_on,
    )


# -- production -----------------------------------------------------------------------------------------------------


def make_production(run: StageRun) -> ProductionEndpoint:
    _refuse_older(run)
    release = release_now(run)
    project = run.project.name
    if hold := run.ledger.hold_on(project, release.digest):
        subject = f"release {short(release.digest)}"
        run.reject(Verdict(subject=subject, report=release.digest, champion=None, failures=(str(hold),)))
    champion = run.ledger.serving(project, "production")
    url = run.serving.base_url(project, "production")
    run.ledger.add_release(release, run.revision)
    rollout = _rollout(run, release)
    if champion and champion.release == release.digest:
        _settle(run, rollout)
        return ProductionEndpoint(
            **run.header, release=release.digest, base_url=url, replaces=champion.release, outcome="already_serving"
        )
    try:
        state = rollout.run(begin(release.digest, champion.release if champion else None, rollout.policy))
    except Conflict as error:
        raise dg.Failure(f"another run moves this rollout: {error}", allow_retries=False) from error
    if state.status != "promoted":
        run.reject(
            Verdict(
                subject=f"release {short(release.digest)} in its canary",
                report=release.digest,
                champion=state.replaces,
                failures=state.reasons,
                reasons=("all traffic is back on the champion",) if state.replaces else ("production serves nothing",),
            )
        )
    _settle(run, rollout)
    if held := [h.release for h in run.ledger.holds(project)]:
        run.ledger.lift(project, held, short(run.revision), f"release {short(release.digest)} came")
    return ProductionEndpoint(
        **run.header,
        release=release.digest,
        base_url=url,
        replaces=state.replaces,
        outcome="promoted",
        requests=state.requests,
    )


def _refuse_older(run: StageRun) -> None:
    """A run older than the planned revision does not deploy unless asked."""
    planned = newest_planned(run.ledger.requests(run.project.name))
    newest = planned.revision if planned else run.revision
    asked = isinstance(run.config, DeployConfig) and run.config.deploy_older
    if newest != run.revision and not asked:
        raise BadInput(
            f"{short(newest)} has been planned since, so {short(run.revision)} is not deployed. Remedy: deploy it on "
            "purpose with deploy_older: true in the launchpad"
        )


def _rollout(run: StageRun, release: Release) -> Rollout:
    return Rollout(
        project=run.project.name,
        revision=run.revision,
        release=release,
        policy=run.at.config.deployment.rollout,
        ledger=run.ledger,
        serving=run.serving,
        drain=run.settings.serving.drain,
        deploy=lambda: _deploy(run, "production", release),
        inputs=lambda: questions(run.at, run.fetch(run.record(DatasetVersion, "dataset_version"))),
        answer_tokens=canary_tokens(run.at.config),
        say=run.log.info,
    )


def canary_tokens(config: ProjectConfig) -> int:
    """How long an answer a rollout asks for: what was evaluated, but a canary need not wait for whole essays."""
    return min(config.evaluation.max_new_tokens, CANARY_TOKENS)


def questions(at: ProjectRevision, data: Path | None) -> list[str]:
    """The project's own: the inputs of its smoke tests, and of held-out rows, if there is a folder with them."""
    asked = [str(t["input"]) for t in at.smoke_tests if t.get("expect", {}).get("status", 200) == 200]
    if data is None:
        return asked
    with (data / "test.jsonl").open() as file:
        rows = [json.loads(line) for line in itertools.islice(file, HELD_OUT_ROWS)]
    return asked + [
        r["input"] if "input" in r else next(m["content"] for m in r["messages"] if m["role"] == "user") for r in rows
    ]


def _settle(run: StageRun, rollout: Rollout) -> None:
    """Production serves this release and nothing else; the ledger and MLflow's alias say so."""
    project, release = run.project.name, rollout.release.digest
    rollout.settle(lambda: run.ledger.serve(project, "production", release, run.revision))
    model = run.demand.records.get("registered_model")
    if isinstance(model, RegisteredModel):
        run.tracking.set_alias(model.name, "champion", model.version)


def describe_production(run: StageRun, record: ProductionEndpoint) -> Mapping[str, Any]:
    return {
        "release": short(record.release),
        **reached_at(record.base_url),
        "outcome": record.outcome,
        "replaces": short(record.replaces) if record.replaces else "nothing",
        "canary_requests": record.requests,
    }


def after_production(run: StageRun, record: ProductionEndpoint) -> None:
    if run.request is not None:
        run.ledger.close(
            run.request, "released", f"release {short(record.release)}: {record.outcome.replace('_', ' ')}"
        )


def build_production(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "production_endpoint",
        make_production,
        describe_production,
        kinds={"llamacpp", "envoy"},
        require=verdict_on,
        after=after_production,
        config_type=DeployConfig,
    )
