"""production_endpoint: rolls the release out to the production URL, evaluating each step.

`llmops_assets.delivery.rollout` moves the traffic; `delivery.gate_evidence` checks the evidence before.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg

from llmops_assets.assets.deploy_shared import deploy
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.approvals import standing_rejection
from llmops_assets.delivery.deployment import deliver
from llmops_assets.delivery.dora import dora_metadata
from llmops_assets.delivery.gate_evidence import release_now, verdict_on
from llmops_assets.delivery.materializations import production_metadata
from llmops_assets.delivery.reconciliation import Reconciler
from llmops_assets.delivery.report_reviews import standing_review_rejection
from llmops_assets.delivery.rollout import Rollout, canary_tokens, questions
from llmops_assets.delivery.rollout_pages import report_returned, rollout_metadata
from llmops_assets.delivery.run_tags import REQUEST_TAG
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import DatasetVersion, ProductionEndpoint, Release
from llmops_assets.domain.requests import CLICK, Request, another_generation, newest_planned
from llmops_assets.domain.verdict import Verdict
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.launch_config import DeployConfig
from llmops_assets.stage.mlflow_mirror import mirror_outcome
from resources.ledger import Conflict


def make(run: StageExecution) -> ProductionEndpoint:
    _refuse_older(run)
    release = release_now(run)
    project = run.project.name
    if hold := run.ledger.hold_on(project, release.digest):
        subject = f"release {short(release.digest)}"
        run.reject(Verdict(subject=subject, report=release.digest, champion=None, failures=(str(hold),)))
    run.request = run.request or _lock(run)
    run.ledger.add_release(release, run.revision)
    champion = run.ledger.serving(project, "production")
    reconciler = Reconciler.of(replace(run.clients, ledger=run.ledger), project, run.log.info)
    try:
        state = deliver(_rollout(run, release, run.request), reconciler)
    except Conflict as error:
        raise dg.Failure(f"another run changed this rollout: {error}", allow_retries=False) from error
    if state is not None and state.status != "promoted":
        report_returned(run.context.instance, run.ledger, run.source)
        run.reject(
            Verdict(
                subject=f"release {short(release.digest)} in its canary",
                report=release.digest,
                champion=state.replaces,
                failures=state.reasons,
                reasons=("all traffic is back on the champion",) if state.replaces else ("production serves nothing",),
            )
        )
    if fault := reconciler.align_mlflow():
        run.log.warning(f"{fault}. The recovery sensor tries again")
    return ProductionEndpoint(
        **run.header,
        release=release.digest,
        base_url=run.serving.base_url(project, "production"),
        replaces=champion.release if champion else None,
        outcome="promoted" if state else "already_serving",
        requests=state.requests if state else 0,
    )


def _lock(run: StageExecution) -> Request:
    """The request of a run that was started by a click: without one, its rollout would be taken for an abandoned one.

    Raises:
        dg.Failure: another run of the project is active.
    """
    project = run.project.name
    generation = another_generation(run.ledger.requests(project), run.revision)
    why = f"production_endpoint was materialized for {short(run.revision)}"
    try:
        request = run.ledger.open_request(project, run.revision, generation, why, asked_by=CLICK)
    except Conflict as error:
        raise dg.Failure(
            f"another run of {project} is active and may be moving traffic. Remedy: wait for it (`llmops status "
            f"{project}`), or stop it (`llmops cancel {project}`)",
            allow_retries=False,
        ) from error
    run.ledger.claim(request, run.run_id)
    run.context.instance.add_run_tags(run.run_id, {REQUEST_TAG: request.name})
    return request


def _refuse_older(run: StageExecution) -> None:
    """Refuses to deploy if a newer revision has been planned, unless `deploy_older` is set."""
    planned = newest_planned(run.ledger.requests(run.project.name))
    newest = planned.revision if planned else run.revision
    asked = isinstance(run.config, DeployConfig) and run.config.deploy_older
    if newest != run.revision and not asked:
        raise BadInput(
            f"a newer commit, {short(newest)}, has been planned since, so {short(run.revision)} is not deployed. "
            "Remedy: to deploy it anyway, set deploy_older: true in the launchpad"
        )


def _rollout(run: StageExecution, release: Release, request: Request) -> Rollout:
    return Rollout(
        project=run.project.name,
        revision=run.revision,
        release=release,
        policy=run.at.policy.rollout,
        ledger=run.ledger,
        serving=run.serving,
        drain=run.settings.serving.drain,
        deploy=lambda: deploy(run, "production", release),
        inputs=lambda: questions(run.at, run.fetch(run.record(DatasetVersion, "dataset_version"))),
        answer_tokens=canary_tokens(run.at.config),
        objections=lambda: _objections(run),
        say=run.log.info,
        request=request,
    )


def _objections(run: StageExecution) -> tuple[str, ...]:
    """The reasons of people who rejected the release or its evaluation report since."""
    asked = (run.source, run.ledger, run.revision)
    return (*standing_rejection(*asked), *standing_review_rejection(*asked))


def describe(run: StageExecution, record: ProductionEndpoint) -> Mapping[str, Any]:
    return {
        **production_metadata(record),
        **rollout_metadata(run.ledger, run.project.name),
        **dora_metadata(run.source, run.ledger),
    }


def after(run: StageExecution, record: ProductionEndpoint) -> None:
    run.conclude("released", f"release {short(record.release)}: {record.outcome.replace('_', ' ')}")
    mirror_outcome(run, "released")


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "production_endpoint",
        make,
        describe,
        kinds={"llamacpp", "envoy"},
        require=verdict_on,
        after=after,
        config_type=DeployConfig,
    )
