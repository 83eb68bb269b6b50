"""staging_endpoint and production_endpoint: releases behind stable URLs; production by a rollout that is judged.

The rollout's decisions are pure (`domain.rollout`). This shell moves traffic, waits, asks and stores every state
before it acts on the next, so that whoever finds it cut goes on from there.
"""

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from llmops_assets.acceptance import release_now
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
from llmops_assets.domain.rollout import RolloutPolicy, RolloutState, Sample, advance, begin
from llmops_assets.evidence import verdict_on
from llmops_assets.settings import ProjectSource, Settings
from llmops_assets.stage import StageRun, stage_asset
from resources.compute import BadInput
from resources.ledger import Conflict
from resources.probe import ask_many
from resources.serving import ServingError

PROBES = 8
"""Requests asked at once during a hold; as many as the engine has slots by default."""


def _deploy(run: StageRun, environment: str, release: Release) -> None:
    artifact = run.record(QuantizedArtifact, "quantized_artifact")
    file = run.fetch(release.artifact_uri, artifact) / release.file
    try:
        run.serving.deploy(run.project.name, environment, release, Path(file), on_wait=run.log.info)
    except ServingError as error:
        raise BadInput(str(error)) from error


def _retire_others(run: StageRun, environment: str, keep: Sequence[str]) -> None:
    for digest in run.serving.deployed(run.project.name, environment):
        if digest not in keep:
            run.serving.retire(run.project.name, environment, digest, run.settings.serving.drain)


# -- staging --------------------------------------------------------------------------------------------------------


def make_staging(run: StageRun) -> StagingEndpoint:
    release = release_now(run)
    run.ledger.add_release(release, run.revision)
    _deploy(run, "staging", release)
    run.serving.route(run.project.name, "staging", {release.digest: 1.0})
    run.ledger.serve(run.project.name, "staging", release.digest, run.revision)
    _retire_others(run, "staging", [release.digest])
    url = run.serving.base_url(run.project.name, "staging")
    return StagingEndpoint(**run.header, release=release.digest, base_url=url)


def describe_staging(run: StageRun, record: StagingEndpoint) -> Mapping[str, Any]:
    return {"release": short(record.release), "base_url": dg.MetadataValue.url(record.base_url)}


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
    champion = run.ledger.serving(project, "production")
    url = run.serving.base_url(project, "production")
    run.ledger.add_release(release, run.revision)
    if champion and champion.release == release.digest:
        _settle(run, release)
        return ProductionEndpoint(
            **run.header, release=release.digest, base_url=url, replaces=champion.release, outcome="already_serving"
        )
    state = _roll_out(run, release, champion.release if champion else None)
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
    requests = run.ledger.requests(run.project.name)
    newest = requests[-1].revision if requests else run.revision
    if newest != run.revision and not run.config.deploy_older:
        raise BadInput(
            f"{short(newest)} has been planned since, so {short(run.revision)} is not deployed. Remedy: deploy it on "
            "purpose with deploy_older: true in the launchpad"
        )


def _roll_out(run: StageRun, release: Release, champion: str | None) -> RolloutState:
    """Moves traffic step by step until the release is promoted or returned. Resumes a rollout that was cut."""
    project = run.project.name
    policy = run.at.config.deployment.rollout
    found = run.ledger.rollout(project)
    if found and found[3].status == "running" and found[3].release == release.digest:
        identity, version, _, state = found
        run.log.info(f"the rollout of {short(release.digest)} goes on at {state.weight:.0%}")
    else:
        if found and found[3].status == "running":
            # A rollout of another release was cut and will not go on: its release gets no traffic.
            left = found[3].model_copy(update={"status": "returned", "reasons": ("another release came",)})
            run.ledger.save_rollout(found[0], found[1], left)
        state = begin(release.digest, champion, policy)
        identity, version = run.ledger.begin_rollout(project, run.revision, state)
    _deploy(run, "production", release)
    inputs = itertools.cycle(_inputs(run))
    while state.status == "running":
        _shift(run, state)
        hold = _hold(policy, state)
        run.log.info(f"{state.weight:.0%} of production on {short(release.digest)}, watched for {hold:g} s")
        samples = _watch(run, release, inputs, hold, policy.min_samples)
        state = advance(state, policy, samples)
        try:
            version = run.ledger.save_rollout(identity, version, state)
        except Conflict as error:
            raise dg.Failure(f"another run moves this rollout: {error}", allow_retries=False) from error
    _shift(run, state)
    if state.status == "promoted":
        _settle(run, release)
    else:
        _retire_others(run, "production", [state.replaces] if state.replaces else [])
    return state


def _shift(run: StageRun, state: RolloutState) -> None:
    share = state.weight
    # The first release of a project is watched before anyone sees it: it is reached by header until it is promoted.
    weights = {state.release: share} if state.replaces or state.status == "promoted" else {}
    if state.replaces and share < 1:
        weights = {state.replaces: 1 - share, **({state.release: share} if share else {})}
    run.serving.route(run.project.name, "production", weights)


def _hold(policy: RolloutPolicy, state: RolloutState) -> float:
    return policy.steps[state.step].hold if state.step < len(policy.steps) else 0.0


def _watch(run: StageRun, release: Release, inputs: Any, hold: float, min_samples: int) -> list[Sample]:
    """Asks the candidate through the gateway, beside the users' traffic, for the hold and until it has enough to judge.

    After three holds without enough answers it stops: too few never promote.
    """
    url = run.serving.base_url(run.project.name, "production")
    headers = run.serving.candidate_headers(release.digest)
    began = time.monotonic()
    longest = max(3 * hold, 60.0)
    samples: list[Sample] = []
    while True:
        batch = list(itertools.islice(inputs, PROBES))
        answers = ask_many(url, run.project.name, batch, concurrency=PROBES, headers=headers, max_tokens=32)
        for answer in answers:
            wrong = answer.release != release.digest
            samples.append(answer.sample.model_copy(update={"ok": False}) if wrong else answer.sample)
        waited = time.monotonic() - began
        if waited >= longest or (waited >= hold and len(samples) >= min_samples):
            return samples
        time.sleep(min(0.5, max(0.0, hold - waited)))


def _inputs(run: StageRun) -> list[str]:
    """Smoke and test inputs: the project's own questions."""
    asked = [str(t["input"]) for t in run.at.smoke_tests if t.get("expect", {}).get("status", 200) == 200]
    data = run.record(DatasetVersion, "dataset_version")
    with (run.fetch(data.uri, data) / "test.jsonl").open() as file:
        rows = [json.loads(line) for line in itertools.islice(file, 64)]
    asked += [
        r["input"] if "input" in r else next(m["content"] for m in r["messages"] if m["role"] == "user") for r in rows
    ]
    return asked


def _settle(run: StageRun, release: Release) -> None:
    """Production serves this release and nothing else; the ledger and MLflow's alias say so."""
    project = run.project.name
    _deploy(run, "production", release)
    run.serving.route(project, "production", {release.digest: 1.0})
    run.ledger.serve(project, "production", release.digest, run.revision)
    _retire_others(run, "production", [release.digest])
    model = run.demand.records.get("registered_model")
    if isinstance(model, RegisteredModel):
        run.tracking.set_alias(model.name, "champion", model.version)


def describe_production(run: StageRun, record: ProductionEndpoint) -> Mapping[str, Any]:
    return {
        "release": short(record.release),
        "base_url": dg.MetadataValue.url(record.base_url),
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
    )
